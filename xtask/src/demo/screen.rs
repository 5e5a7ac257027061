//! What the demo writes: readable at 80 columns and at 160, on a terminal and in a file.

use std::io::IsTerminal as _;

/// Where no terminal says how wide it is.
const DEFAULT_WIDTH: usize = 100;

/// Standard output, with its width.
#[derive(Debug, Clone, Copy)]
pub(super) struct Screen {
    pub(super) width: usize,
    pub(super) is_terminal: bool,
}

impl Screen {
    pub(super) fn new() -> Self {
        let told = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
        let asked = console::Term::stdout().size_checked().map(|(_, columns)| usize::from(columns));
        Self { width: told.or(asked).unwrap_or(DEFAULT_WIDTH).max(40), is_terminal: std::io::stdout().is_terminal() }
    }

    pub(super) fn line(&self, text: &str) {
        for line in wrap(text, self.width) {
            anstream::println!("{line}");
        }
    }

    pub(super) fn heading(&self, text: &str) {
        anstream::println!();
        for line in wrap(text, self.width) {
            anstream::println!("\x1b[1m{line}\x1b[0m");
        }
        anstream::println!();
    }

    /// A command as a user would type it.
    pub(super) fn command(&self, text: &str) {
        let _ = self;
        anstream::println!("\x1b[2m$ {text}\x1b[0m");
    }

    /// A command for the reader to copy: whole, however wide, since a folded one does something else.
    pub(super) fn copyable(&self, text: &str) {
        let _ = self;
        anstream::println!("  {text}");
    }

    /// Another's words, set off.
    pub(super) fn quote(&self, text: &str) {
        for line in wrap(text, self.width - 4) {
            anstream::println!("    \x1b[33m{line}\x1b[0m");
        }
    }

    /// A table of kubectl's. Rows wider than the screen are cut, not folded.
    pub(super) fn table(&self, text: &str) {
        for line in text.lines() {
            anstream::println!("{}", self.cut(line));
        }
        anstream::println!();
    }

    /// At most a screen's width of a line.
    pub(super) fn cut(&self, line: &str) -> String {
        if line.chars().count() <= self.width {
            return line.trim_end().to_owned();
        }
        let kept: String = line.chars().take(self.width - 1).collect();
        format!("{}…", kept.trim_end())
    }
}

/// A text in lines of at most this width, broken at spaces; continued lines keep the first one's indentation. A word that
/// is longer than a line, such as a path to copy, stays whole.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let indent = " ".repeat(text.len() - text.trim_start().len());
    let mut lines = Vec::new();
    let mut line = String::new();
    for word in text.split_whitespace() {
        let is_first = line.is_empty();
        if !is_first && line.chars().count() + 1 + word.chars().count() > width {
            lines.push(std::mem::take(&mut line));
        }
        line.push_str(if line.is_empty() { &indent } else { " " });
        line.push_str(word);
    }
    lines.push(line);
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_folded_at_words_and_keeps_its_indentation() {
        assert_eq!(wrap("  one two three", 9), ["  one two", "  three"]);
        assert_eq!(wrap("", 9), [""]);
        assert_eq!(wrap("/a/path/longer/than/a/line x", 9), ["/a/path/longer/than/a/line", "x"]);
    }

    #[test]
    fn a_row_that_is_too_wide_is_cut() {
        let screen = Screen { width: 40, is_terminal: false };
        let cut = screen.cut(&"x".repeat(50));
        assert_eq!((cut.chars().count(), cut.ends_with('…')), (40, true));
        assert_eq!(screen.cut("short   "), "short");
    }
}
