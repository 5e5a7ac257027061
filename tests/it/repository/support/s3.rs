//! An S3 server in this process, and one that misbehaves.

use std::net::SocketAddr;
use std::path::Path;

use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;
use tempfile::TempDir;
use tenantatlas::repository::{Credentials, Location};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

pub const ACCESS_KEY: &str = "AKIAEXAMPLE";
pub const SECRET_KEY: &str = "do-not-show-this-secret";

/// A server on a free port of the loopback interface; it ends with the value.
pub struct Server {
    pub address: SocketAddr,
    task: JoinHandle<()>,
    _root: Option<TempDir>,
    credentials: TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    /// A working store with one bucket, `backups`.
    pub async fn start() -> Self {
        let root = TempDir::new().unwrap();
        std::fs::create_dir(root.path().join("backups")).unwrap();
        let mut service = S3ServiceBuilder::new(s3s_fs::FileSystem::new(root.path()).unwrap());
        service.set_auth(SimpleAuth::from_single(ACCESS_KEY, SECRET_KEY));
        let service = service.build();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let task = tokio::spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                let service = service.clone();
                tokio::spawn(async move {
                    let _ =
                        Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(connection), service).await;
                });
            }
        });
        Self { address, task, _root: Some(root), credentials: credentials(ACCESS_KEY, SECRET_KEY) }
    }

    /// A store that answers every request with `answer`, or, without one, never.
    pub async fn answering(answer: Option<&'static str>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let task = tokio::spawn(async move {
            let mut held = Vec::new();
            while let Ok((mut connection, _)) = listener.accept().await {
                match answer {
                    None => held.push(connection),
                    Some(answer) => {
                        tokio::spawn(async move {
                            let mut request = [0; 16 * 1024];
                            let _ = connection.read(&mut request).await;
                            let _ = connection.write_all(answer.as_bytes()).await;
                            let _ = connection.shutdown().await;
                        });
                    }
                }
            }
        });
        Self { address, task, _root: None, credentials: credentials(ACCESS_KEY, SECRET_KEY) }
    }

    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn location(&self, bucket: &str, prefix: &str) -> Location {
        self.location_with(bucket, prefix, self.credentials.path())
    }

    pub fn location_with(&self, bucket: &str, prefix: &str, credentials: &Path) -> Location {
        location(&self.endpoint(), bucket, prefix, credentials)
    }

    /// Where the bucket lies on disk.
    pub fn bucket(&self, name: &str) -> std::path::PathBuf {
        self._root.as_ref().unwrap().path().join(name)
    }
}

pub fn location(endpoint: &str, bucket: &str, prefix: &str, credentials: &Path) -> Location {
    Location::S3 {
        bucket: bucket.to_owned(),
        prefix: prefix.to_owned(),
        endpoint: Some(endpoint.to_owned()),
        region: Some("eu-1".to_owned()),
        path_style: true,
        ca_bundle_pem: None,
        role_arn: None,
        credentials: Credentials::Directory(credentials.to_owned()),
    }
}

/// A directory such as a mounted Secret.
pub fn credentials(access_key: &str, secret_key: &str) -> TempDir {
    let directory = TempDir::new().unwrap();
    std::fs::write(directory.path().join("AWS_ACCESS_KEY_ID"), format!("{access_key}\n")).unwrap();
    std::fs::write(directory.path().join("AWS_SECRET_ACCESS_KEY"), secret_key).unwrap();
    directory
}
