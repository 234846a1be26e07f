//! What was measured, for people: tables for a terminal and for the documentation, JSON, and a chart.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Serialize;

/// A table.
#[derive(Debug, Clone, Default)]
pub struct Table {
    /// The heads of its columns.
    pub head: Vec<String>,
    /// Its rows, as wide as the head.
    pub rows: Vec<Vec<String>>,
}

impl Table {
    /// One with these heads.
    pub fn new(head: &[&str]) -> Self {
        Self { head: head.iter().map(|word| (*word).to_owned()).collect(), rows: Vec::new() }
    }

    /// For a terminal.
    pub fn text(&self) -> String {
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column)).chain(self.head.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or_default()
        };
        let widths: Vec<usize> = (0..self.head.len()).map(width).collect();
        let mut text = String::new();
        for row in std::iter::once(&self.head).chain(&self.rows) {
            for (cell, width) in row.iter().zip(&widths) {
                let _ = write!(text, "{cell:<width$}  ");
            }
            text.truncate(text.trim_end().len());
            text.push('\n');
        }
        text
    }

    /// For the documentation.
    pub fn markdown(&self) -> String {
        let mut text = format!("| {} |\n|{}\n", self.head.join(" | "), " --- |".repeat(self.head.len()));
        for row in &self.rows {
            let _ = writeln!(text, "| {} |", row.join(" | "));
        }
        text
    }
}

/// Prints tables under their headings. Returns them for the documentation.
pub fn show(tables: &[(String, Table)]) -> String {
    let mut text = String::new();
    for (heading, table) in tables {
        println!("{heading}\n{}", table.text());
        let _ = writeln!(text, "**{heading}**\n\n{}", table.markdown());
    }
    text
}

/// Gathers rows below the heading that each has; those with the same one stand together.
pub fn headed(head: &[&str], rows: impl Iterator<Item = (String, Vec<String>)>) -> Vec<(String, Table)> {
    let mut tables: Vec<(String, Table)> = Vec::new();
    for (heading, cells) in rows {
        match tables.last_mut() {
            Some((last, table)) if *last == heading => table.rows.push(cells),
            _ => tables.push((heading, Table { rows: vec![cells], ..Table::new(head) })),
        }
    }
    tables
}

/// The folder of what is written.
///
/// # Errors
/// If it cannot be made.
pub fn folder() -> Result<PathBuf> {
    let folder = poolguard_harness::root().join("target/bench");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    Ok(folder)
}

/// Writes figures as JSON.
///
/// # Errors
/// If the file cannot be written.
pub fn json(name: &str, figures: &impl Serialize) -> Result<PathBuf> {
    let file = folder()?.join(format!("{name}.json"));
    fs::write(&file, format!("{}\n", serde_json::to_string_pretty(figures)?)).context("cannot write figures")?;
    Ok(file)
}

/// Puts a text between the marks `<!-- bench: NAME -->` and `<!-- end of NAME -->` of docs/benchmarks.md.
///
/// # Errors
/// If the marks are not there.
pub fn document(name: &str, text: &str) -> Result<()> {
    let file = poolguard_harness::root().join("docs/benchmarks.md");
    let page = fs::read_to_string(&file).context("cannot read docs/benchmarks.md")?;
    fs::write(&file, between(&page, name, text)?).context("cannot write docs/benchmarks.md")
}

fn between(page: &str, name: &str, text: &str) -> Result<String> {
    let (begin, end) = (format!("<!-- bench: {name} -->\n"), format!("<!-- end of {name} -->"));
    let missing = || format!("docs/benchmarks.md has no marks for {name}");
    let (before, rest) = page.split_once(&begin).with_context(missing)?;
    let (_, after) = rest.split_once(&end).with_context(missing)?;
    Ok(format!("{before}{begin}{}\n{end}{after}", text.trim_end()))
}

/// One bar of a chart.
pub struct Bar {
    /// What it is of.
    pub label: String,
    /// Which bars have one colour.
    pub group: String,
    /// Its length.
    pub value: f64,
    /// As it is written beside it.
    pub written: String,
}

const COLOURS: [&str; 6] = ["#4c72b0", "#8c8c8c", "#dd8452", "#55a868", "#c44e52", "#8172b3"];

/// Writes bars over a logarithmic scale as SVG.
///
/// # Errors
/// If the file cannot be written.
pub fn chart(file: &Path, title: &str, bars: &[Bar]) -> Result<()> {
    fs::write(file, svg(title, bars)).context("cannot write a chart")
}

fn svg(title: &str, bars: &[Bar]) -> String {
    const LEFT: f64 = 330.0;
    const WIDTH: f64 = 460.0;
    const HEIGHT: f64 = 20.0;
    let values = || bars.iter().map(|bar| bar.value).filter(|value| *value > 0.0);
    let (least, most) = (values().fold(f64::MAX, f64::min), values().fold(0.0, f64::max));
    let (from, to) = ((least / 2.0).log10(), (most * 1.1).log10());
    let mut groups: Vec<&str> = Vec::new();
    for bar in bars {
        if !groups.contains(&bar.group.as_str()) {
            groups.push(&bar.group);
        }
    }
    let mut body = String::new();
    for (index, bar) in bars.iter().enumerate() {
        let y = 40.0 + HEIGHT * index as f64;
        let part = if bar.value > 0.0 && to > from { (bar.value.log10() - from) / (to - from) } else { 0.0 };
        let colour = groups.iter().position(|group| *group == bar.group).unwrap_or_default() % COLOURS.len();
        let _ = writeln!(
            body,
            r#"<text x="{:.0}" y="{:.0}" text-anchor="end">{}</text><rect x="{LEFT:.0}" y="{:.0}" width="{:.0}" height="{:.0}" fill="{}"/><text x="{:.0}" y="{:.0}">{}</text>"#,
            LEFT - 8.0,
            y + 14.0,
            escaped(&bar.label),
            y + 3.0,
            part * WIDTH,
            HEIGHT - 6.0,
            COLOURS[colour],
            LEFT + part * WIDTH + 6.0,
            y + 14.0,
            escaped(&bar.written),
        );
    }
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"960\" height=\"{:.0}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n<text x=\"12\" y=\"22\" font-size=\"15\">{}</text>\n{body}</svg>\n",
        60.0 + HEIGHT * bars.len() as f64,
        escaped(title)
    )
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_stands_between_the_marks_is_replaced() {
        let page = "a\n<!-- bench: x -->\nold\n<!-- end of x -->\nb\n";
        let new = between(page, "x", "new\n").expect("marks");
        assert_eq!(new, "a\n<!-- bench: x -->\nnew\n<!-- end of x -->\nb\n");
        assert!(between(page, "y", "new").is_err());
    }

    #[test]
    fn a_table_is_as_wide_as_its_widest_cells() {
        let table = Table { rows: vec![vec!["1".to_owned(), "long".to_owned()]], ..Table::new(&["who", "it"]) };
        assert_eq!(table.text(), "who  it\n1    long\n");
        assert_eq!(table.markdown(), "| who | it |\n| --- | --- |\n| 1 | long |\n");
    }
}
