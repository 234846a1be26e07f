//! Tells the reader of the demo what happens: a few lines in plain words, or everything.

use std::cell::RefCell;
use std::io::IsTerminal;

/// Where the lines go.
#[derive(Debug, Default)]
pub struct Reporter {
    verbose: bool,
    colour: bool,
    silent: bool,
    lines: RefCell<Vec<String>>,
}

/// How a line is coloured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// A heading.
    Heading,
    /// What somebody types.
    Command,
    /// It went well.
    Good,
    /// It was refused.
    Refused,
    /// It went wrong, as it did in 2021.
    Bad,
    /// More of the above.
    Plain,
}

impl Reporter {
    /// Prints to standard output, in colour on a terminal.
    pub fn printing(verbose: bool) -> Self {
        let colour = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        Self { verbose, colour, ..Self::default() }
    }

    /// Only keeps the lines.
    pub fn silent() -> Self {
        Self { silent: true, ..Self::default() }
    }

    /// Tells a line.
    pub fn line(&self, tone: Tone, text: &str) {
        if !self.silent {
            println!("{}", self.painted(tone, text));
        }
        self.lines.borrow_mut().push(text.to_owned());
    }

    /// Tells all that a program said, to those who want everything.
    pub fn detail(&self, text: &str) {
        if self.verbose && !self.silent {
            for line in text.lines() {
                println!("    {line}");
            }
        }
    }

    /// What has been told, without details.
    pub fn transcript(&self) -> Vec<String> {
        self.lines.borrow().clone()
    }

    fn painted(&self, tone: Tone, text: &str) -> String {
        let code = match tone {
            Tone::Heading => "1",
            Tone::Command => "36",
            Tone::Good => "32",
            Tone::Refused => "33",
            Tone::Bad => "31",
            Tone::Plain => "0",
        };
        if self.colour { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }
}
