//! Servers in this process: a working S3 store, and ones that answer as told.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;
use tempfile::TempDir;
use tenantatlas::repository::{Credentials, Location};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

pub const ACCESS_KEY: &str = "AKIAEXAMPLE";
pub const SECRET_KEY: &str = "do-not-show-this-secret";

trait Connection: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Connection for T {}

/// A server on a free port; it ends with the value.
pub struct Server {
    host: String,
    pub address: SocketAddr,
    /// The certificate to trust, if it speaks TLS.
    pub certificate: Option<String>,
    /// The heads of all requests, if it answers as told.
    pub requests: Arc<Mutex<Vec<String>>>,
    /// Whether it takes new connections and never says a word.
    pub silent: Arc<AtomicBool>,
    task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    /// A working store of what lies in `root`; its directories are the buckets. For this process only.
    pub async fn store(root: &Path, tls: bool) -> Self {
        Self::store_at("localhost", root, tls).await
    }

    /// A working store at an address of this machine.
    pub async fn store_at(host: &str, root: &Path, tls: bool) -> Self {
        let mut service = S3ServiceBuilder::new(s3s_fs::FileSystem::new(root).unwrap());
        service.set_auth(SimpleAuth::from_single(ACCESS_KEY, SECRET_KEY));
        let service = service.build();
        Self::serve(host, tls, move |connection, _| {
            let service = service.clone();
            async move {
                let _ = Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(connection), service).await;
            }
        })
        .await
    }

    /// Begins to answer each request and goes on for ever, a byte at a time.
    pub async fn trickling(pause: std::time::Duration) -> Self {
        Self::serve("localhost", false, move |mut connection, _| async move {
            let _ = connection.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n").await;
            while connection.write_all(b" ").await.is_ok() {
                tokio::time::sleep(pause).await;
            }
        })
        .await
    }

    /// Answers each request by its head, or, where there is no answer, never.
    pub async fn answering(tls: bool, answer: impl Fn(&str) -> Option<String> + Send + Sync + 'static) -> Self {
        let answer = Arc::new(answer);
        Self::serve("localhost", tls, move |mut connection, requests| {
            let answer = answer.clone();
            async move {
                let mut head = Vec::new();
                while !head.windows(4).any(|window| window == b"\r\n\r\n") {
                    match connection.read_u8().await {
                        Ok(byte) => head.push(byte),
                        Err(_) => return,
                    }
                }
                let head = String::from_utf8(head).unwrap();
                requests.lock().unwrap().push(head.clone());
                match answer(&head) {
                    Some(answer) => {
                        let _ = connection.write_all(answer.as_bytes()).await;
                        let _ = connection.shutdown().await;
                    }
                    None => std::future::pending().await,
                }
            }
        })
        .await
    }

    async fn serve<F: Future<Output = ()> + Send + 'static>(
        host: &str,
        tls: bool,
        handle: impl Fn(Box<dyn Connection>, Arc<Mutex<Vec<String>>>) -> F + Send + Sync + 'static,
    ) -> Self {
        let (acceptor, certificate) = if tls { tls_acceptor(host) } else { (None, None) };
        let bound = if host == "localhost" { "127.0.0.1" } else { host };
        let listener = TcpListener::bind((bound, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::<Mutex<Vec<String>>>::default();
        let recorded = requests.clone();
        let silent = Arc::<AtomicBool>::default();
        let is_silent = silent.clone();
        let handle = Arc::new(handle);
        let task = tokio::spawn(async move {
            let mut kept = Vec::new();
            while let Ok((connection, _)) = listener.accept().await {
                if is_silent.load(SeqCst) {
                    kept.push(connection);
                    continue;
                }
                let (acceptor, recorded, handle) = (acceptor.clone(), recorded.clone(), handle.clone());
                tokio::spawn(async move {
                    let connection: Box<dyn Connection> = match acceptor {
                        None => Box::new(connection),
                        Some(acceptor) => match acceptor.accept(connection).await {
                            Ok(connection) => Box::new(connection),
                            Err(_) => return,
                        },
                    };
                    handle(connection, recorded).await;
                });
            }
        });
        Self { host: host.to_owned(), address, certificate, requests, silent, task }
    }

    pub fn endpoint(&self) -> String {
        let scheme = if self.certificate.is_some() { "https" } else { "http" };
        format!("{scheme}://{}:{}", self.host, self.address.port())
    }

    pub fn recorded(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

fn tls_acceptor(host: &str) -> (Option<TlsAcceptor>, Option<String>) {
    let made = rcgen::generate_simple_self_signed([host.to_owned()]).unwrap();
    let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
    let config =
        ServerConfig::builder().with_no_client_auth().with_single_cert(vec![made.cert.der().clone()], key).unwrap();
    (Some(TlsAcceptor::from(Arc::new(config))), Some(made.cert.pem()))
}

/// An HTTP answer with S3's form of an error.
pub fn error(status: &str, code: &str) -> String {
    let body = format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>told to</Message></Error>");
    format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len())
}

/// A directory such as a mounted Secret.
pub fn secret(keys: &[(&str, &str)]) -> TempDir {
    let directory = TempDir::new().unwrap();
    for (key, value) in keys {
        std::fs::write(directory.path().join(key), value).unwrap();
    }
    directory
}

pub fn keys(secret_key: &str) -> TempDir {
    // Written as an editor or `echo` would.
    secret(&[("AWS_ACCESS_KEY_ID", &format!("{ACCESS_KEY}\n")), ("AWS_SECRET_ACCESS_KEY", secret_key)])
}

/// A bucket on a server, in the way of most compatible stores.
pub fn bucket(server: &Server, prefix: &str, credentials: &Path) -> Location {
    Location::S3 {
        bucket: "backups".to_owned(),
        prefix: prefix.to_owned(),
        endpoint: Some(server.endpoint()),
        region: Some("eu-1".to_owned()),
        path_style: true,
        ca_bundle_pem: server.certificate.clone(),
        role_arn: None,
        credentials: Credentials::Directory(credentials.to_owned()),
    }
}

/// A root with the bucket `backups` in it.
pub fn root() -> (TempDir, PathBuf) {
    let root = TempDir::new().unwrap();
    let bucket = root.path().join("backups");
    std::fs::create_dir(&bucket).unwrap();
    (root, bucket)
}
