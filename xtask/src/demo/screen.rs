//! What the demo writes: readable at 80 columns and at 160, on a terminal and in a file, and as a picture.

use std::cell::RefCell;
use std::io::IsTerminal as _;

/// Where no terminal says how wide it is.
const DEFAULT_WIDTH: usize = 100;

/// Columns of a picture: what the README shows without a scroll bar.
const PICTURE_WIDTH: usize = 100;

/// Standard output, with its width.
#[derive(Debug)]
pub(super) struct Screen {
    pub(super) width: usize,
    pub(super) is_terminal: bool,
    /// What was written, with its colours.
    written: RefCell<String>,
}

impl Screen {
    /// The screen of a demo whose picture is taken.
    pub(super) fn for_a_picture() -> Self {
        Self::in_a_file(PICTURE_WIDTH)
    }

    /// A screen of this width that is no terminal.
    pub(super) fn in_a_file(width: usize) -> Self {
        Self { width, is_terminal: false, written: RefCell::default() }
    }

    /// What was written from a heading on, as SVG.
    pub(super) fn picture(&self, from: &str) -> Option<String> {
        let written = self.written.borrow();
        let begin = written.find(from)?;
        let line = written[..begin].rfind('\n').map_or(0, |end| end + 1);
        Some(anstyle_svg::Term::new().render_svg(written[line..].trim_end()))
    }

    fn print(&self, line: &str) {
        anstream::println!("{line}");
        self.record(line);
    }

    fn record(&self, line: &str) {
        let mut written = self.written.borrow_mut();
        written.push_str(line);
        written.push('\n');
    }

    pub(super) fn new() -> Self {
        let told = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
        let asked = console::Term::stdout().size_checked().map(|(_, columns)| usize::from(columns));
        Self {
            width: told.or(asked).unwrap_or(DEFAULT_WIDTH).max(40),
            is_terminal: std::io::stdout().is_terminal(),
            written: RefCell::default(),
        }
    }

    pub(super) fn line(&self, text: &str) {
        for line in wrap(text, self.width) {
            self.print(&line);
        }
    }

    pub(super) fn heading(&self, text: &str) {
        self.print("");
        for line in wrap(text, self.width) {
            self.print(&format!("\x1b[1m{line}\x1b[0m"));
        }
        self.print("");
    }

    /// A command as a user would type it: whole, to copy it, but in a picture as wide as that is.
    pub(super) fn command(&self, text: &str) {
        let shown = |text: &str| format!("\x1b[36m{text}\x1b[0m");
        let text = format!("$ {text}");
        anstream::println!("{}", shown(&text));
        self.record(&shown(&self.cut(&text)));
    }

    /// A command for the reader to copy: whole, however wide, since a folded one does something else.
    pub(super) fn copyable(&self, text: &str) {
        self.print(&format!("  {text}"));
    }

    /// Another's words, set off.
    pub(super) fn quote(&self, text: &str) {
        for line in wrap(text, self.width - 4) {
            self.print(&format!("    \x1b[33m{line}\x1b[0m"));
        }
    }

    /// A table of kubectl's. Rows wider than the screen are cut, not folded.
    pub(super) fn table(&self, text: &str) {
        for line in text.lines() {
            self.print(&self.cut(line));
        }
        self.print("");
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
        let screen = Screen::in_a_file(40);
        let cut = screen.cut(&"x".repeat(50));
        assert_eq!((cut.chars().count(), cut.ends_with('…')), (40, true));
        assert_eq!(screen.cut("short   "), "short");
    }

    #[test]
    fn a_picture_has_what_was_written_from_its_heading_on() {
        let screen = Screen::for_a_picture();
        screen.heading("Before");
        screen.heading("A preview");
        screen.command("kubectl get restoreruns");
        let picture = screen.picture("A preview").unwrap();
        assert!(picture.starts_with("<svg") && picture.contains("A preview") && picture.contains("restoreruns"));
        assert!(!picture.contains("Before"));
        assert!(screen.picture("Never written").is_none());
    }
}
