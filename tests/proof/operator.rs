//! The supervised controller: kept alive as a kubelet would, and told when to fail.
//!
//! It has the operator's own account (a token for it), so that admission and RBAC hold for it as for the real one. Every
//! process has the same name on the Lease, as a container that restarts in its pod has: so it leads at once.

use crate::fault::Order;
use crate::process::{ARMED, CALL, FIRED, MARK};
use crate::support::cluster::{Cluster, environment};
use crate::support::wait_for;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::{Api, ListParams, PostParams};
use kube::config::{AuthInfo, Kubeconfig};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, ChildStdin, Command};

/// Without a call for so long, a process is taken to have nothing to do.
const QUIET: Duration = Duration::from_millis(600);

/// How many kinds the controller watches.
const WATCHES: usize = 8;

/// See the module's text.
pub(crate) struct Operator {
    shared: Arc<Shared>,
}

struct Shared {
    /// The name on the Lease.
    name: &'static str,
    folder: TempDir,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// What all processes said, oldest first.
    said: Vec<String>,
    /// When the last line came.
    last: Option<Instant>,
    stdin: Option<ChildStdin>,
    pid: Option<u32>,
    /// How many processes there were.
    processes: usize,
    /// The first order of the next process.
    first_order: String,
    /// Whether the next one may start.
    held: bool,
    ended: bool,
}

impl Operator {
    /// Starts the controller under a name, which must be the Lease's holder or the Lease free. `server`: another address
    /// of the API server.
    pub(crate) async fn start(cluster: &Cluster, name: &'static str, server: Option<String>) -> Self {
        let folder = TempDir::new().expect("a folder");
        let file = kubeconfig(cluster, server).await;
        let written = serde_json::to_string(&file).expect("JSON");
        std::fs::write(folder.path().join("kubeconfig"), written).expect("a kubeconfig");
        let shared = Arc::new(Shared { name, folder, state: Mutex::default() });
        tokio::spawn(Arc::clone(&shared).supervise());
        let operator = Self { shared };
        operator.settled(0).await;
        operator
    }

    /// Has the process fail as ordered, from now on; or not any more. Waits until it knows, unless it dies first.
    pub(crate) async fn arm(&self, order: Option<&Order>) {
        let line = order.map_or_else(|| "none".to_owned(), |order| serde_json::to_string(order).expect("JSON"));
        let wanted = format!("{ARMED} {line}");
        let mark = self.mark();
        let mut told = None;
        wait_for("the controller takes its order", Duration::from_secs(20), async || {
            let process = self.shared.state().processes;
            if told != Some(process) {
                let stdin = self.shared.state().stdin.take();
                let Some(mut stdin) = stdin else { return Err("it is not running".to_owned()) };
                let sent = stdin.write_all(format!("{line}\n").as_bytes()).await;
                let mut state = self.shared.state();
                if state.processes == process {
                    state.stdin = Some(stdin);
                    told = sent.is_ok().then_some(process);
                }
            }
            let known = self.since(mark).contains(&wanted);
            if known { Ok(()) } else { Err(format!("process {process}")) }
        })
        .await;
    }

    /// Kills the process and starts the next one, with this order from its first call.
    pub(crate) fn restart(&self, order: Option<&Order>) -> usize {
        let mark = self.hold();
        self.resume(order);
        mark
    }

    /// Kills the process; none is started until [`resume`](Self::resume). Returns the mark of that moment.
    pub(crate) fn hold(&self) -> usize {
        let mut state = self.shared.state();
        state.held = true;
        if let Some(pid) = state.pid.take() {
            signal("KILL", pid);
        }
        state.said.len()
    }

    /// Starts the next process, with this order from its first call.
    pub(crate) fn resume(&self, order: Option<&Order>) {
        let mut state = self.shared.state();
        state.first_order = order.map(|order| serde_json::to_string(order).expect("JSON")).unwrap_or_default();
        state.held = false;
    }

    /// A place in what was said, to ask [`since`](Self::since) from.
    pub(crate) fn mark(&self) -> usize {
        self.shared.state().said.len()
    }

    /// What was said since.
    pub(crate) fn since(&self, mark: usize) -> Vec<String> {
        self.shared.state().said[mark..].to_vec()
    }

    /// The call that was made to fail since, if any.
    pub(crate) fn fired(&self, mark: usize) -> Option<String> {
        self.since(mark).iter().find_map(|line| Some(line.strip_prefix(FIRED)?.trim().to_owned()))
    }

    /// The writes since, but for the Lease and events.
    pub(crate) fn writes(&self, mark: usize) -> Vec<String> {
        let writes = |line: &String| {
            let mut words = line.split(' ');
            matches!(words.next(), Some(CALL | FIRED))
                && matches!(words.next(), Some("create" | "update" | "patch" | "delete"))
                && !matches!(words.next(), Some("leases.coordination.k8s.io" | "events.events.k8s.io"))
        };
        self.since(mark).into_iter().filter(writes).collect()
    }

    /// Those of them about objects in a namespace, or about a workspace run whose name begins with its.
    pub(crate) fn writes_in(&self, mark: usize, namespace: &str) -> Vec<String> {
        let (object, objects) = (format!(" {namespace}/"), format!(" in {namespace}"));
        let (named, begins) = (format!(" {namespace}"), format!(" {namespace}-"));
        let of_it = |line: &String| line.ends_with(&named) || line.contains(&begins);
        let over_all = |line: &String| line.contains(" workspaceruns.") && of_it(line);
        let inside = |line: &String| line.contains(&object) || line.ends_with(&objects) || over_all(line);
        self.writes(mark).into_iter().filter(inside).collect()
    }

    /// Waits until the process that was started after the mark has filled its caches and then done nothing for a while.
    pub(crate) async fn settled(&self, mark: usize) {
        let watch = format!("{CALL} watch ");
        wait_for("the controller has nothing to do", Duration::from_mins(1), async || {
            let said = self.since(mark);
            let watches = said.iter().filter(|line| line.starts_with(&watch)).count();
            if watches >= WATCHES && self.is_quiet() { Ok(()) } else { Err(said.join("\n")) }
        })
        .await;
    }

    /// Wakes a process that has stopped itself, and waits until it has ended: another one leads.
    pub(crate) async fn wake(&self) {
        let (pid, before) = {
            let state = self.shared.state();
            (state.pid.expect("a process that has stopped"), state.processes)
        };
        signal("CONT", pid);
        wait_for("the woken controller ends, for another one leads", Duration::from_mins(1), async || {
            if self.shared.state().processes > before { Ok(()) } else { Err(self.log()) }
        })
        .await;
    }

    /// Whether there was a process after the one that stopped itself.
    pub(crate) fn has_woken(&self) -> bool {
        self.shared.state().processes > 1
    }

    /// Whether there was no call for a while.
    pub(crate) fn is_quiet(&self) -> bool {
        self.is_silent_for(QUIET)
    }

    /// Whether there was no call for so long.
    pub(crate) fn is_silent_for(&self, time: Duration) -> bool {
        self.shared.state().last.is_some_and(|last| last.elapsed() >= time)
    }

    /// How many processes there were so far.
    pub(crate) fn processes(&self) -> usize {
        self.shared.state().processes
    }

    /// The log of all processes.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.shared.folder.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        self.hold();
        self.shared.state().ended = true;
    }
}

impl Shared {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts a process whenever there is none.
    async fn supervise(self: Arc<Self>) {
        while !self.state().ended {
            if self.state().held {
                tokio::time::sleep(Duration::from_millis(5)).await;
                continue;
            }
            let mut child = self.spawn();
            let lines = child.stdout.take().expect("a pipe");
            {
                let mut state = self.state();
                state.stdin = child.stdin.take();
                state.pid = child.id();
                state.processes += 1;
                if state.held {
                    signal("KILL", child.id().expect("it runs"));
                }
            }
            let mut lines = BufReader::new(lines).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                let mut state = self.state();
                state.said.push(line);
                state.last = Some(Instant::now());
            }
            let _ = child.wait().await;
            self.state().pid = None;
        }
    }

    fn spawn(&self) -> Child {
        let order = std::mem::take(&mut self.state().first_order);
        let log = std::fs::File::options().create(true).append(true).open(self.folder.path().join("log"));
        Command::new(std::env::current_exe().expect("this program"))
            .env(MARK, order)
            .env("KUBECONFIG", self.folder.path().join("kubeconfig"))
            .env("POD_NAME", self.name)
            .env("POD_NAMESPACE", environment("ATLAS_OPERATOR_NAMESPACE"))
            .env("ATLAS_IMAGE", environment("ATLAS_IMAGE"))
            .env("ATLAS_IMAGE_PULL_POLICY", "Never")
            .env("ATLAS_LISTEN", "127.0.0.1:0")
            .env("ATLAS_LOG", "info")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log.expect("a log"))
            .kill_on_drop(true)
            .spawn()
            .expect("this program can be started")
    }
}

pub(crate) fn signal(name: &str, pid: u32) {
    let sent = std::process::Command::new("kill").arg(format!("-{name}")).arg(pid.to_string()).output();
    // It may have ended by itself.
    drop(sent.expect("kill can be started"));
}

/// The administrator's kubeconfig, with a token of the operator's account instead of its certificate.
pub(crate) async fn kubeconfig(cluster: &Cluster, server: Option<String>) -> Kubeconfig {
    let namespace = environment("ATLAS_OPERATOR_NAMESPACE");
    let deployments: Api<Deployment> = Api::namespaced(cluster.client.clone(), &namespace);
    let selector = ListParams::default().labels("app.kubernetes.io/name=tenantatlas");
    let deployment = deployments.list(&selector).await.expect("Deployments can be listed").items.into_iter().next();
    let spec = deployment.and_then(|deployment| deployment.spec).expect("the operator's Deployment");
    assert_eq!(spec.replicas, Some(0), "the deployed operator must stand still: `cargo xtask test` sees to that");
    let account = spec.template.spec.and_then(|spec| spec.service_account_name).expect("the operator's account");
    let accounts: Api<ServiceAccount> = Api::namespaced(cluster.client.clone(), &namespace);
    let request = TokenRequest {
        spec: TokenRequestSpec { expiration_seconds: Some(12 * 3600), ..TokenRequestSpec::default() },
        ..TokenRequest::default()
    };
    let answer = accounts.create_token_request(&account, &PostParams::default(), &request).await;
    let token = answer.expect("a token").status.expect("a token").token;
    let mut file = Kubeconfig::read_from(PathBuf::from(environment("ATLAS_KUBECONFIG"))).expect("a kubeconfig");
    for user in &mut file.auth_infos {
        user.auth_info = Some(AuthInfo { token: Some(token.clone().into()), ..AuthInfo::default() });
    }
    if server.is_some() {
        for place in file.clusters.iter_mut().filter_map(|place| place.cluster.as_mut()) {
            place.server.clone_from(&server);
        }
    }
    file
}
