//! Logs: one JSON object per line on standard error, each line redacted.

use crate::items::redact::redact;
use std::io::{self, Write};
use tracing_subscriber::{EnvFilter, fmt::MakeWriter};

/// The variable that sets what is logged, in the syntax of `tracing-subscriber`, such as
/// `info,tenantatlas=debug`.
pub const FILTER: &str = "ATLAS_LOG";

/// Starts logging. A second call has no effect.
pub fn init_logs() {
    let filter = EnvFilter::builder()
        .with_default_directive(tracing::level_filters::LevelFilter::INFO.into())
        .with_env_var(FILTER)
        .from_env_lossy();
    let subscriber = tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_current_span(true)
        .with_span_list(false)
        .with_env_filter(filter)
        .with_writer(RedactingWriter(io::stderr))
        .finish();
    // Fails only if logging was started before.
    let _ = tracing::subscriber::set_global_default(subscriber);
}

/// Redacts every line. The subscriber writes an event in one piece.
struct RedactingWriter<F>(F);

impl<'a, F, W> MakeWriter<'a> for RedactingWriter<F>
where
    F: Fn() -> W,
    W: Write,
{
    type Writer = RedactedLine<W>;

    fn make_writer(&'a self) -> Self::Writer {
        RedactedLine((self.0)())
    }
}

struct RedactedLine<W>(W);

impl<W: Write> Write for RedactedLine<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.write_all(redact(&String::from_utf8_lossy(line)).as_bytes())?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_line_is_redacted_and_stays_json() {
        let mut out = Vec::new();
        let line = b"{\"message\":\"Authorization: Bearer abcdefghijklmnop.qrst\",\"level\":\"INFO\"}\n";
        assert_eq!(RedactedLine(&mut out).write(line).expect("written"), line.len());
        let value: serde_json::Value = serde_json::from_slice(&out).expect("JSON");
        assert_eq!(value["message"], "Authorization: [redacted]");
        assert_eq!(value["level"], "INFO");
    }
}
