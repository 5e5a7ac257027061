//! Images without Docker: ours, which holds one static binary, and those of the examples.

mod example;
pub(crate) mod oci;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::{Parser, ValueEnum};

use self::oci::{Archive, Config, Content};
use crate::cluster::checkout;
use crate::{shell, tools};

/// The image that holds a pod's namespaces, in the local cluster. Never pulled: the name resolves to nothing.
pub(crate) const PAUSE: &str = "localhost/tenantatlas-pause:local";
/// Nobody: a user that exists on no node.
const USER: u32 = 65532;

/// Packs an image into an OCI archive, without Docker
#[derive(Debug, Default, Parser)]
pub(crate) struct Arguments {
    /// Where to write the archive [default: target/image/NAME.tar]
    #[arg(long)]
    pub(crate) output: Option<PathBuf>,
    /// Name of the image; without a tag it gets one made from its digest [default: localhost/NAME]
    #[arg(long)]
    pub(crate) reference: Option<String>,
    /// Build for shipping: optimized as a whole, which takes minutes
    #[arg(long, conflicts_with = "example")]
    pub(crate) release: bool,
    /// Optimize our own crate as the dependencies always are: for measurements, without a build of minutes
    #[arg(long, conflicts_with_all = ["release", "example"])]
    pub(crate) optimized: bool,
    /// Pack the image of an example instead
    #[arg(long)]
    pub(crate) example: Option<Example>,
}

/// Images that examples need.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Example {
    /// A shell and sqlite3, to dump a database
    Sqlite,
}

/// How the binary is compiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Build {
    /// Our own crate as the developer's: compiled soon.
    Development,
    /// Our own crate optimized, too.
    Optimized,
    /// Optimized as a whole.
    Release,
}

impl Build {
    /// cargo's switches, to be given before its command.
    pub(crate) const fn switches(self) -> &'static [&'static str] {
        match self {
            Self::Development | Self::Release => &[],
            // Dependencies are optimized anyway, and are not compiled again.
            Self::Optimized => &[
                "--config",
                "profile.dev.package.tenantatlas.opt-level=2",
                "--config",
                "profile.dev.package.tenantatlas-api.opt-level=2",
                "--config",
                "profile.dev.package.tenantatlas-items.opt-level=2",
                "--config",
                "profile.dev.package.tenantatlas-repository.opt-level=2",
            ],
        }
    }
}

impl Arguments {
    pub(crate) fn build(&self) -> Build {
        match (self.release, self.optimized) {
            (true, _) => Build::Release,
            (false, true) => Build::Optimized,
            (false, false) => Build::Development,
        }
    }
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let archive = build(arguments)?;
    writeln!(anstream::stdout(), "{}\n{}\n{}", archive.file.display(), archive.reference, archive.digest)?;
    Ok(())
}

/// Builds and packs an image.
pub(crate) fn build(arguments: &Arguments) -> Result<Archive> {
    let begun = Instant::now();
    let name = match arguments.example {
        None => "tenantatlas",
        Some(Example::Sqlite) => "tenantatlas-example-sqlite",
    };
    let output = match &arguments.output {
        Some(output) => std::path::absolute(output)?,
        None => checkout()?.join("target/image").join(name).with_extension("tar"),
    };
    let reference = arguments.reference.clone().unwrap_or_else(|| format!("localhost/{name}"));
    let (content, config) = match arguments.example {
        None => product(arguments.build())?,
        Some(Example::Sqlite) => example::sqlite()?,
    };
    let archive = oci::pack(&output, &reference, &content, &config)?;
    shell::say(format!("Packed {} ({})", archive.reference, shell::elapsed(begun)));
    Ok(archive)
}

/// The local cluster's pause image.
pub(crate) fn pack_pause(output: &Path) -> Result<Archive> {
    let mut content = Content::default();
    content.copy("/pause", 0o755, &tools::pause()?)?;
    oci::pack(output, PAUSE, &content, &config("/pause", "pause"))
}

/// Our own image: the static binary and the few files that any program expects.
fn product(build: Build) -> Result<(Content, Config)> {
    let binary = build_binary(build)?;
    let mut content = base();
    content.copy("/tenantatlas", 0o755, &binary)?;
    // The TLS library reads the trusted authorities from here, and refuses to start without any. Mozilla's list comes with
    // a pinned package, so that the image does not depend on the machine that packs it.
    content.file("/etc/ssl/certs/ca-certificates.crt", 0o644, authorities());
    Ok((content, config("/tenantatlas", "tenantatlas")))
}

/// What an image has before anything is put into it: a temporary folder, and names for its users and for name resolution.
fn base() -> Content {
    let mut content = Content::default();
    content
        .folder("/tmp", 0o1777)
        .file(
            "/etc/passwd",
            0o644,
            format!("root:x:0:0:root:/:/sbin/nologin\nnonroot:x:{USER}:{USER}:nonroot:/tmp:/sbin/nologin\n"),
        )
        .file("/etc/group", 0o644, format!("root:x:0:\nnonroot:x:{USER}:\n"))
        // The two sources that are built into glibc; any other would need a shared library.
        .file("/etc/nsswitch.conf", 0o644, "hosts: files dns\n");
    content
}

fn config(entrypoint: &str, title: &str) -> Config {
    let label = |name: &str, value: &str| (format!("org.opencontainers.image.{name}"), value.to_owned());
    Config {
        entrypoint: vec![entrypoint.to_owned()],
        user: format!("{USER}:{USER}"),
        env: Vec::new(),
        labels: BTreeMap::from([
            label("title", title),
            label("version", env!("CARGO_PKG_VERSION")),
            label("licenses", env!("CARGO_PKG_LICENSE")),
            label("source", env!("CARGO_PKG_REPOSITORY")),
        ]),
    }
}

/// Builds the binary, statically linked with glibc. The switch is given to the last crate only, so that the dependencies
/// are those of any other build of the profile, and are not compiled again.
pub(crate) fn build_binary(build: Build) -> Result<PathBuf> {
    let mut cargo = shell::command(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .current_dir(checkout()?)
        .args(build.switches())
        .args(["rustc", "--package", "tenantatlas", "--bin", "tenantatlas", "--locked"])
        .arg("--message-format=json-render-diagnostics");
    if build == Build::Release {
        cargo.arg("--release");
    }
    cargo.args(["--", "-C", "target-feature=+crt-static", "-C", "strip=symbols"]);
    // The compiler's own progress and errors are the best to show.
    let output = cargo.stderr(Stdio::inherit()).output().context("cannot start cargo: is it on the PATH?")?;
    if !output.status.success() {
        bail!("the build of the binary failed");
    }
    let binary = String::from_utf8(output.stdout)?
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter(|message| message["target"]["name"] == "tenantatlas")
        .filter_map(|message| message["executable"].as_str().map(PathBuf::from))
        .next_back()
        .context("cargo does not say where the binary is")?;
    let bytes = std::fs::read(&binary)?;
    if needs_loader(&bytes)? {
        bail!("{} is not statically linked: is libc6-dev (the static C library) installed?", binary.display());
    }
    Ok(binary)
}

/// Whether an ELF file (64 bits, little endian) names a dynamic loader, which the image does not have.
fn needs_loader(elf: &[u8]) -> Result<bool> {
    const INTERPRETER: u32 = 3;
    let number = |at: usize, size: usize| {
        let bytes = elf.get(at..at + size).context("the binary is cut short")?;
        anyhow::Ok(bytes.iter().rev().fold(0_u64, |number, byte| (number << 8) | u64::from(*byte)))
    };
    if !elf.starts_with(b"\x7fELF\x02\x01") {
        bail!("the binary is not a 64-bit ELF file");
    }
    let (table, size, count) = (number(32, 8)?, number(54, 2)?, number(56, 2)?);
    for header in 0..count {
        let at = usize::try_from(table + header * size)?;
        if number(at, 4)? == u64::from(INTERPRETER) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The certificate authorities that Mozilla trusts, as PEM.
fn authorities() -> String {
    let mut text = String::new();
    for certificate in webpki_root_certs::TLS_SERVER_ROOT_CERTS {
        text.push_str("-----BEGIN CERTIFICATE-----\n");
        let encoded = STANDARD.encode(certificate);
        for line in encoded.as_bytes().chunks(64) {
            text.push_str(&String::from_utf8_lossy(line));
            text.push('\n');
        }
        text.push_str("-----END CERTIFICATE-----\n");
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_dynamically_linked_program_is_told_apart() {
        // This very test is one.
        let own = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        assert!(needs_loader(&own).unwrap());
        assert!(needs_loader(b"#!/bin/sh").is_err());
    }

    #[test]
    fn the_authorities_are_pem() {
        let text = authorities();
        let count = text.matches("-----BEGIN CERTIFICATE-----\n").count();
        assert!(count > 100, "{count}");
        assert!(text.lines().all(|line| line.len() <= 64));
    }
}
