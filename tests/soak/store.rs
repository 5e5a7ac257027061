//! The store: an S3 server as a process of its own, which can be killed, behind a port that always stays, which can
//! refuse, fall silent and delay.

use crate::log::lock;
use crate::s3::Server;
use crate::settings::Settings;
use crate::{Result, processes};
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};
use tokio::sync::watch;

/// The variable by which this program knows that it is the store; its value is where the buckets are.
pub const FOLDER: &str = "ATLAS_SOAK_STORE";

/// The one bucket.
pub const BUCKET: &str = "backups";

/// Serves until its standard input ends: it does not outlive who started it.
pub async fn serve(folder: PathBuf) -> Result<()> {
    let server = Server::store(&folder, false).await;
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", server.address)?;
    out.flush()?;
    drop(out);
    let until_it_ends = || std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
    tokio::task::spawn_blocking(until_it_ends).await??;
    Ok(())
}

/// How the port behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Through,
    /// No connection stands, and none comes about.
    Refuses,
    /// Nothing goes through, in either direction.
    Silent,
    /// Each piece takes so long.
    Slow(Duration),
}

/// See the module's text. Its process ends with it.
pub struct Store {
    root: PathBuf,
    address: SocketAddr,
    process: Mutex<Option<Child>>,
    target: Arc<Mutex<Option<SocketAddr>>>,
    mode: watch::Sender<Mode>,
}

impl Store {
    /// With an empty bucket.
    pub async fn start(settings: &Settings) -> Result<Self> {
        let root = settings.output.join("store");
        if root.exists() {
            std::fs::remove_dir_all(&root)?;
        }
        std::fs::create_dir_all(root.join(BUCKET))?;
        let listener = TcpListener::bind((settings.host_address.as_str(), 0)).await?;
        let store = Self {
            root,
            address: listener.local_addr()?,
            process: Mutex::default(),
            target: Arc::default(),
            mode: watch::Sender::new(Mode::Through),
        };
        store.revive().await?;
        tokio::spawn(listen(listener, Arc::clone(&store.target), store.mode.subscribe()));
        Ok(store)
    }

    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The files below a prefix.
    pub fn folder(&self, prefix: &str) -> PathBuf {
        self.root.join(BUCKET).join(prefix)
    }

    pub fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }

    /// Kills the process.
    pub async fn kill(&self) {
        let process = lock(&self.process).take();
        *lock(&self.target) = None;
        if let Some(mut process) = process {
            processes::signal("KILL", &process.id().into_iter().collect::<Vec<_>>());
            let _ = process.wait().await;
        }
    }

    /// Starts it where it does not run.
    pub async fn revive(&self) -> Result<()> {
        if lock(&self.process).is_some() {
            return Ok(());
        }
        let (process, address) = spawn(&self.root).await?;
        *lock(&self.process) = Some(process);
        *lock(&self.target) = Some(address);
        Ok(())
    }
}

async fn spawn(root: &Path) -> Result<(Child, SocketAddr)> {
    // This very program, though a build may have replaced its file.
    let mut process = Command::new("/proc/self/exe")
        .env(FOLDER, root)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let mut line = String::new();
    let stdout = process.stdout.take().ok_or("the store has no output")?;
    BufReader::new(stdout).read_line(&mut line).await?;
    Ok((process, line.trim().parse()?))
}

async fn listen(listener: TcpListener, target: Arc<Mutex<Option<SocketAddr>>>, mode: watch::Receiver<Mode>) {
    while let Ok((client, _)) = listener.accept().await {
        let address = *lock(&target);
        let mode = mode.clone();
        tokio::spawn(async move {
            let refuses = *mode.borrow() == Mode::Refuses;
            let Some(address) = address.filter(|_| !refuses) else { return };
            // How a connection ends is the client's concern.
            let Ok(server) = TcpStream::connect(address).await else { return };
            let (from_client, to_client) = client.into_split();
            let (from_server, to_server) = server.into_split();
            tokio::select! {
                () = pass(from_client, to_server, mode.clone()) => {}
                () = pass(from_server, to_client, mode.clone()) => {}
                () = refused(mode.clone()) => {}
            }
        });
    }
}

async fn refused(mut mode: watch::Receiver<Mode>) {
    // The sender lives as long as the store.
    let _ = mode.wait_for(|mode| *mode == Mode::Refuses).await;
}

/// Forwards the bytes of a connection, as the mode says.
async fn pass(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    mut mode: watch::Receiver<Mode>,
) {
    let mut piece = vec![0; 64 * 1024];
    while let Ok(read) = from.read(&mut piece).await {
        let now = *mode.borrow();
        if let Mode::Slow(delay) = now {
            tokio::time::sleep(delay).await;
        }
        let _ = mode.wait_for(|mode| *mode != Mode::Silent).await;
        if read == 0 || to.write_all(&piece[..read]).await.is_err() {
            return;
        }
    }
}
