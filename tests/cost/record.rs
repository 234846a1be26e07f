//! What is on record: a file of the repository, written anew with `UPDATE_GOLDEN=1`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// How much more than on record is still the same: hash tables and background tasks make some difference.
const MARGIN: f64 = 0.05;
/// What costs less than this part is a gain to keep: the record is out of date.
const GAIN: f64 = 0.85;

/// Figures by what they are of.
pub type Figures = BTreeMap<String, Vec<u64>>;

/// Compares figures with those on record.
///
/// # Panics
/// If one is higher, or much lower, or is not on record.
pub fn compare(file: &str, columns: &[&str], measured: &Figures) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(file);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        return write(&path, columns, measured);
    }
    let recorded = read(&path);
    let mut differ = Vec::new();
    for (name, figures) in measured {
        let Some(before) = recorded.get(name).filter(|before| before.len() == figures.len()) else {
            differ.push(format!("{name}: not on record"));
            continue;
        };
        for ((column, now), before) in columns.iter().zip(figures).zip(before) {
            let (is, was) = (*now as f64, *before as f64);
            if is > was * (1.0 + MARGIN) || is < was * GAIN {
                differ.push(format!("{name}: {now} {column}, on record {before}"));
            }
        }
    }
    let gone = recorded.keys().filter(|name| !measured.contains_key(*name));
    differ.extend(gone.map(|name| format!("{name}: on record, and not measured")));
    assert!(differ.is_empty(), "UPDATE_GOLDEN=1 writes tests/golden/{file}, where it should:\n{}", differ.join("\n"));
}

fn write(path: &Path, columns: &[&str], measured: &Figures) {
    let head = format!("{:<32}{}\n", "#", columns.iter().map(|column| format!("{column:>16}")).collect::<String>());
    let line = |(name, figures): (&String, &Vec<u64>)| {
        format!("{name:<32}{}\n", figures.iter().map(|figure| format!("{figure:>16}")).collect::<String>())
    };
    let text: String = std::iter::once(head).chain(measured.iter().map(line)).collect();
    fs::write(path, text).expect("the record can be written");
}

fn read(path: &Path) -> Figures {
    let text = fs::read_to_string(path).unwrap_or_default();
    let line = |line: &str| {
        let (name, figures) = line.split_at_checked(32)?;
        let figures = figures.split_whitespace().map(|figure| figure.parse().ok()).collect::<Option<_>>()?;
        Some((name.trim().to_owned(), figures))
    };
    text.lines().filter(|line| !line.starts_with('#')).filter_map(line).collect()
}
