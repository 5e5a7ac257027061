//! Running programs and saying so: progress for long steps, an error that quotes the program's own last words.
//!
//! Nothing in here knows what is being built or run.

use std::fs::File;
use std::io::{BufRead as _, BufReader, IsTerminal as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};

/// How often a long step says that it is still going where no terminal shows a spinner.
const REMINDER: Duration = Duration::from_secs(20);

/// One line for the developer, on standard error: standard output is for results.
pub(crate) fn say(message: impl AsRef<str>) {
    anstream::eprintln!("{}", message.as_ref());
}

/// A short form of a duration: `850 ms`, `6.2 s`, `5 min 40 s`.
pub(crate) fn elapsed(since: Instant) -> String {
    human(since.elapsed())
}

fn human(duration: Duration) -> String {
    match duration.as_secs() {
        0 => format!("{} ms", duration.as_millis()),
        1..60 => format!("{:.1} s", duration.as_secs_f64()),
        seconds => format!("{} min {} s", seconds / 60, seconds % 60),
    }
}

/// A command without any input. The caller's proxy settings are kept: only downloads go through them.
pub(crate) fn command(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new(program);
    command.stdin(Stdio::null());
    command
}

/// Runs a short command; an error quotes what it wrote to standard error.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    output(command).map(drop)
}

/// Runs a short command and returns its standard output without surrounding white space.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let result = command.output().with_context(|| format!("cannot start {}", line(command)))?;
    if !result.status.success() {
        let said = String::from_utf8_lossy(&result.stderr);
        bail!("{} failed ({}): {}", line(command), result.status, said.trim());
    }
    Ok(String::from_utf8_lossy(&result.stdout).trim().to_owned())
}

/// Runs a short command with the given standard input and returns its standard output.
pub(crate) fn feed(command: &mut Command, input: &[u8]) -> Result<String> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {}", line(command)))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A program that ends before it has read everything says why itself.
        let _ = stdin.write_all(input);
    }
    let result = child.wait_with_output()?;
    if !result.status.success() {
        let said = String::from_utf8_lossy(&result.stderr);
        bail!("{} failed ({}): {}", line(command), result.status, said.trim());
    }
    Ok(String::from_utf8_lossy(&result.stdout).into_owned())
}

/// Whether a short command can be started and succeeds; its output is dropped.
pub(crate) fn succeeds(command: &mut Command) -> bool {
    command.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

/// Runs a command that takes long. Its output goes to `log`; a spinner (or, without a terminal, a line now and then)
/// shows the last line of it and the time taken. An error quotes the end of the log.
pub(crate) fn step(title: &str, command: &mut Command, log: &Path) -> Result<()> {
    let started = Instant::now();
    let mut file = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
    let mut child = command
        .stdout(file.try_clone()?)
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {}", line(command)))?;
    let Some(stderr) = child.stderr.take() else {
        bail!("{} has no standard error", line(command));
    };

    let spinner = ProgressBar::new_spinner()
        .with_style(ProgressStyle::with_template("{spinner} {prefix} ({elapsed}) {wide_msg:.dim}")?);
    let terminal = std::io::stderr().is_terminal();
    if terminal {
        spinner.set_prefix(title.to_owned());
        spinner.enable_steady_tick(Duration::from_millis(120));
    } else {
        spinner.set_draw_target(indicatif::ProgressDrawTarget::hidden());
        say(format!("  {title} …"));
    }

    let (sender, lines) = channel();
    std::thread::spawn(move || {
        for said in BufReader::new(stderr).lines().map_while(Result::ok) {
            if sender.send(said).is_err() {
                return;
            }
        }
    });
    let (mut last, mut count, mut reminded) = (String::new(), 0_usize, Instant::now());
    loop {
        match lines.recv_timeout(REMINDER.saturating_sub(reminded.elapsed())) {
            Ok(said) => {
                writeln!(file, "{said}")?;
                spinner.set_message(said.clone());
                last = said;
                count += 1;
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
        if !terminal && reminded.elapsed() >= REMINDER {
            reminded = Instant::now();
            say(format!("  {title}: {}, {count} lines, last: {last}", elapsed(started)));
        }
    }
    let status = child.wait()?;
    spinner.finish_and_clear();
    if !status.success() {
        bail!("{title} failed ({status}); the end of {}:\n{}", log.display(), tail(log, 15));
    }
    say(format!("  {title}: done in {}", elapsed(started)));
    Ok(())
}

/// The last lines of a log, indented, or a word on why there are none.
pub(crate) fn tail(log: &Path, lines: usize) -> String {
    match std::fs::read(log) {
        Ok(bytes) => {
            let text = String::from_utf8_lossy(&bytes);
            let all: Vec<&str> = text.lines().collect();
            let end = &all[all.len().saturating_sub(lines)..];
            if end.is_empty() {
                "    (it wrote nothing)".to_owned()
            } else {
                end.iter().map(|line| format!("    {line}")).collect::<Vec<_>>().join("\n")
            }
        }
        Err(error) => format!("    ({}: {error})", log.display()),
    }
}

/// Where a program is, as the shell would find it; system folders are searched even when `PATH` leaves them out.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/bin", "/bin"].map(PathBuf::from))
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
}

/// Whether this process may make namespaces and network interfaces.
pub(crate) fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|metadata| metadata.uid() == 0)
}

/// Makes sure that programs are there, given as (file that must exist or program, Debian package). Missing ones are
/// installed where `apt-get` and root are there; otherwise the error names them all.
pub(crate) fn ensure_packages(needs: &[(&str, &str)]) -> Result<()> {
    let is_missing = |need: &str| {
        if need.starts_with('/') { !Path::new(need).exists() } else { find(need).is_none() }
    };
    let mut missing: Vec<&str> =
        needs.iter().filter(|(need, _)| is_missing(need)).map(|(_, package)| *package).collect();
    missing.dedup();
    if missing.is_empty() {
        return Ok(());
    }
    let list = missing.join(" ");
    if find("apt-get").is_none() || !is_root() {
        bail!(
            "missing from this machine: {list} (Debian package names). Install them with your package manager and try again; \
             as root on Debian or Ubuntu this command does it itself."
        );
    }
    say(format!("Installing from Debian: {list}"));
    let log = std::env::temp_dir().join(format!("tenantatlas-apt-{}.log", std::process::id()));
    let mut update = command("apt-get");
    step("apt-get update", update.args(["update", "-qq"]), &log)?;
    let mut install = command("apt-get");
    install
        .env("DEBIAN_FRONTEND", "noninteractive")
        .args(["install", "-y", "-qq", "--no-install-recommends"])
        .args(&missing);
    step(&format!("apt-get install {list}"), &mut install, &log)?;
    std::fs::remove_file(&log)?;
    if let Some((need, package)) = needs.iter().find(|(need, _)| is_missing(need)) {
        bail!("the package {package} was installed, but {need} is still not there");
    }
    Ok(())
}

/// A command as one would type it, for messages.
fn line(command: &Command) -> String {
    std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|word| word.to_string_lossy().into_owned())
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_failing_command_is_quoted_with_its_own_words() {
        let error = output(command("sh").args(["-c", "echo no such tenant >&2; exit 3"])).unwrap_err();
        assert!(error.to_string().contains("no such tenant"), "{error}");
        assert!(error.to_string().contains("exit status: 3"), "{error}");
    }

    #[test]
    fn durations_read_like_speech() {
        assert_eq!(human(Duration::from_millis(850)), "850 ms");
        assert_eq!(human(Duration::from_millis(6_200)), "6.2 s");
        assert_eq!(human(Duration::from_secs(340)), "5 min 40 s");
    }

    #[test]
    fn a_missing_program_is_named_by_its_package() {
        assert!(find("no-such-program-anywhere").is_none());
        assert!(ensure_packages(&[("sh", "dash")]).is_ok());
    }
}
