//! Trials in which not one call fails but the world does: a leader that stands still and wakes, an API server that is
//! away or overloaded, views of the past.

use crate::fault::Variant;
use crate::operator::{Operator, kubeconfig};
use crate::process::FIRED;
use crate::proxy::{Mode, Proxy};
use crate::scenario::{Expected, IN_TIME, Scenario};
use crate::selection::everything;
use crate::support::{SOON, wait_for};
use crate::trial::{Bench, Key, Played, order, tenants};
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::{Api, DeleteParams};
use kube::config::KubeConfigOptions;
use kube::{Client, Config};
use std::collections::BTreeSet;
use std::time::Duration;
use tenantatlas::kernel::lease::RENEW_DEADLINE;

/// How often a disturber looks.
const PERIOD: Duration = Duration::from_millis(20);

/// After how many writes the API server goes away, one trial each; the quick selection has the first.
const OUTAGES: [usize; 4] = [8, 1, 16, 24];

fn writes_before_outage(key: Key) -> usize {
    OUTAGES.get(key.index - 1).copied().unwrap_or_else(|| panic!("there are {} trials of this kind", OUTAGES.len()))
}

/// The number of the last trial of a series, where it is not found by trying.
pub(crate) fn last(variant: Variant) -> usize {
    match variant {
        Variant::Gone | Variant::Storm(_) if everything() => OUTAGES.len(),
        // The first, the second and the third event of each three.
        Variant::Drops => 3,
        Variant::Gone | Variant::Storm(_) | Variant::Merges => 1,
        _ => usize::MAX,
    }
}

impl Bench {
    /// One leader stands still in the middle of the story; another takes over; the first one wakes and goes on with what
    /// it was about to do.
    ///
    /// In one series of `--all` the second waits until the Lease has run out. Else the Lease is deleted, which saves each
    /// trial 15 s: the first cannot see it, and to the second a free Lease is a free Lease.
    pub(crate) async fn play_with_two_leaders(&self, key: Key) -> Played {
        self.operator.hold();
        self.delete_lease().await;
        let first = Operator::start(&self.cluster, "proof-first", None).await;
        let tenants = tenants(key.scenario).await;
        let order = order(key, &tenants);
        let mark = first.mark();
        first.arm(Some(&order)).await;
        let stage = self.stage(&tenants, IN_TIME);
        let disturber = async {
            wait_for("the first leader stands still", IN_TIME, async || first.fired(mark).ok_or("it does not")).await;
            let runs_out = key.scenario == Scenario::Submit && key.variant == Variant::UnsentStops;
            if !(everything() && runs_out) {
                self.delete_lease().await;
            }
            let second = self.operator.mark();
            self.operator.resume(None);
            if key.variant == Variant::UnsentStopsBriefly {
                self.operator.settled(second).await;
                wake(key, &first).await;
            }
        };
        let mut expected = {
            let (mut story, mut disturber) = (std::pin::pin!(stage.play(key.scenario)), std::pin::pin!(disturber));
            tokio::select! {
                expected = &mut story => expected,
                () = &mut disturber => story.await,
            }
        };
        if first.fired(mark).is_some() && !first.has_woken() {
            wake(key, &first).await;
        }
        let fired = first.fired(mark);
        let late = first.since(mark).into_iter().skip_while(|line| !line.starts_with(FIRED)).collect::<Vec<_>>();
        drop(first);
        self.delete_lease().await;
        let mark = self.operator.restart(None);
        self.operator.settled(mark).await;
        for (tenant, expected) in tenants.iter().zip(&mut expected).filter(|_| key.scenario.leaves_no_job()) {
            self.allow_late_jobs(key, &tenant.name, &late, expected);
        }
        if key.scenario == Scenario::TickDeleted {
            stage.no_jobs_in(&tenants[0]).await;
        }
        self.agrees(key, &tenants, &expected).await;
        Played { key, tenants, expected, mark: self.operator.mark(), fired }
    }

    /// Nothing keeps a request that was under way when the leader stood still from being carried out,
    /// and the name of the Job is free again. Its run is over or gone, so it does no work: the fence
    /// stops it. That run had a Job before. `late`: what the leader said from then on.
    fn allow_late_jobs(&self, key: Key, namespace: &str, late: &[String], expected: &mut Expected) {
        let was_sent = |line: &&String| line.starts_with(FIRED) && key.variant == Variant::LostStops;
        let creates = format!(" create jobs.batch in {namespace}");
        let creations = late.iter().filter(|line| line.ends_with(&creates) && !was_sent(line)).count();
        let jobs = self.witness.place(namespace).jobs;
        let runs: BTreeSet<&String> = jobs.values().map(|(run, _)| run).collect();
        let (least, most) = expected.jobs.clone().into_inner();
        assert!(runs.len() <= most, "{key}: more runs than {most} had a Job: {jobs:#?}");
        expected.jobs = least..=most + creations;
    }

    /// In the middle of all stories at once the API server is away, or answers nothing but an error.
    pub(crate) async fn play_without_server(&self, key: Key) -> Vec<Played> {
        let away = Duration::from_secs(if everything() { 60 } else { 10 });
        let mode = match key.variant {
            Variant::Storm(code) => Mode::Answers(code),
            _ => Mode::Gone,
        };
        let proxy = self.proxy().await;
        let operator = self.behind(&proxy).await;
        let prepared = Scenario::OF_RUNS.map(|scenario| async move { (scenario, tenants(scenario).await) });
        let stories = futures::future::join_all(prepared).await;
        let before = proxy.writes();
        let plays = stories.iter().map(|(scenario, tenants)| async move {
            let expected = self.stage(tenants, IN_TIME + away).play(*scenario).await;
            self.agrees(key, tenants, &expected).await;
            expected
        });
        let disturber = async {
            wait_for("the stories are in their middle", SOON, async || {
                let writes = proxy.writes() - before;
                if writes >= writes_before_outage(key) { Ok(()) } else { Err(format!("{writes} writes")) }
            })
            .await;
            proxy.set(mode);
            tokio::time::sleep(away).await;
            proxy.set(Mode::Through);
        };
        let (expected, ()) = tokio::join!(futures::future::join_all(plays), disturber);
        drop(operator);
        let mark = self.operator.restart(None);
        self.operator.settled(mark).await;
        let mark = self.operator.mark();
        let fired = Some(format!("write {} and on", writes_before_outage(key)));
        let played = |((_, tenants), expected)| Played { key, tenants, expected, mark, fired: fired.clone() };
        stories.into_iter().zip(expected).map(played).collect()
    }

    /// What the controller sees is behind; whenever it has nothing more to do, it sees what there is.
    pub(crate) async fn play_in_the_past(&self, key: Key) -> Played {
        let proxy = self.proxy().await;
        let operator = self.behind(&proxy).await;
        let tenants = tenants(key.scenario).await;
        let mark = operator.mark();
        let (mode, dies) = match key.variant {
            Variant::Behind(events) => (Mode::Behind(events), true),
            Variant::Drops => (Mode::Drops(key.index), false),
            _ => (Mode::Merges, false),
        };
        if dies {
            operator.arm(Some(&order(key, &tenants))).await;
        }
        proxy.set(mode);
        let stage = self.stage(&tenants, IN_TIME);
        let releaser = async {
            loop {
                if operator.is_quiet() {
                    proxy.release();
                    // One release for each time that nothing moves.
                    wait_for("something moves", SOON, async || if operator.is_quiet() { Err("") } else { Ok(()) })
                        .await;
                }
                tokio::time::sleep(PERIOD).await;
            }
        };
        let expected = tokio::select! {
            expected = stage.play(key.scenario) => expected,
            () = releaser => unreachable!("it has no end"),
        };
        let fired = match key.variant {
            Variant::Behind(_) => operator.fired(mark),
            Variant::Drops => Some(format!("event {} of three", key.index)),
            _ => Some("all events".to_owned()),
        };
        drop(operator);
        let mark = self.operator.restart(None);
        self.operator.settled(mark).await;
        self.agrees(key, &tenants, &expected).await;
        Played { key, tenants, expected, mark: self.operator.mark(), fired }
    }

    async fn proxy(&self) -> Proxy {
        let file = kubeconfig(&self.cluster, None).await;
        let mut config =
            Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await.expect("a configuration");
        config.default_retry = false;
        Proxy::start(Client::try_from(config).expect("a client")).await
    }

    /// A controller behind the proxy, in the place of the other one.
    async fn behind(&self, proxy: &Proxy) -> Operator {
        self.operator.hold();
        Operator::start(&self.cluster, "proof", Some(proxy.url())).await
    }

    async fn delete_lease(&self) {
        let namespace = crate::support::cluster::environment("ATLAS_OPERATOR_NAMESPACE");
        let leases: Api<Lease> = Api::namespaced(self.cluster.client.clone(), &namespace);
        // It may not be there.
        let _ = leases.delete("tenantatlas-controller", &DeleteParams::default()).await;
    }
}

/// Wakes a leader that stands still.
///
/// As its Lease was deleted, it may wake within its own term. It then goes on as a leader until it
/// looks at the Lease, on a view from before. In most stories nothing comes of that. Where the name of
/// a Job is free again it may make one for a run that is over, which the fence alone stops. A Lease
/// that runs out leaves it no time for that. So there it is woken when its term is over: it ends what
/// it was about, and begins nothing.
async fn wake(key: Key, first: &Operator) {
    if key.scenario.leaves_no_job() {
        wait_for("the term of the leader that stands still is over", RENEW_DEADLINE * 2, async || {
            if first.is_silent_for(RENEW_DEADLINE) { Ok(()) } else { Err("not yet") }
        })
        .await;
    }
    first.wake().await;
}
