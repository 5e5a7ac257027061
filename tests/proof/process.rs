//! The controller's process: the library's controller, and an observer that fails the call it was told to.
//!
//! Orders come on stdin, one JSON line each; every call is told on stdout before it is made. When stdin ends so does the
//! process: it does not outlive its supervisor.

use crate::fault::{Order, Variant};
use clap::Parser;
use http::StatusCode;
use std::io::{BufRead as _, Write as _};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tenantatlas::cluster::client::{Answer, Call, CallObserver, Fault};
use tenantatlas::controller;

/// The variable by which this program knows that it is the controller; its value is the first order, if any.
pub(crate) const MARK: &str = "ATLAS_PROOF_PROCESS";

/// First words of the lines on stdout.
pub(crate) const CALL: &str = "call";
pub(crate) const FIRED: &str = "fired";
pub(crate) const ARMED: &str = "armed";

#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    options: controller::Options,
}

pub(crate) fn main() -> ExitCode {
    tenantatlas::telemetry::init_logs();
    let saboteur = Arc::new(Saboteur::default());
    saboteur.obey(&std::env::var(MARK).unwrap_or_default());
    let orders = Arc::clone(&saboteur);
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            orders.obey(&line);
            say(&format!("{ARMED} {line}"));
        }
        std::process::abort();
    });
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    let code = runtime.block_on(controller::run(Arguments::parse().options, saboteur.clone()));
    if saboteur.stopped.load(Ordering::Relaxed) {
        // What was under way when the process stood still comes to its end: more than production would let it.
        std::thread::sleep(LAST_WORDS);
    }
    runtime.shutdown_background();
    code
}

/// How long a woken process that leads no more may still write.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// Fails the call it was told to, in the way it was told to.
#[derive(Default)]
pub(crate) struct Saboteur {
    armed: Mutex<Option<Armed>>,
    stopped: AtomicBool,
}

/// An order, and how far it is.
struct Armed {
    order: Order,
    seen: usize,
    at_its_answer: Option<Call>,
    dies_at_the_next: bool,
}

impl Saboteur {
    fn armed(&self) -> MutexGuard<'_, Option<Armed>> {
        self.armed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stands still until somebody wakes the process.
    fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
        let pid = std::process::id().to_string();
        let stopped = std::process::Command::new("kill").args(["-STOP", &pid]).status();
        stopped.expect("kill can be started");
    }

    /// Takes an order, one JSON object; anything else is none.
    pub(crate) fn obey(&self, line: &str) {
        let order: Option<Order> = serde_json::from_str(line).ok();
        *self.armed() = order.map(|order| Armed { order, seen: 0, at_its_answer: None, dies_at_the_next: false });
    }
}

impl CallObserver for Saboteur {
    fn plan(&self, call: &Call) -> Fault {
        let mut armed = self.armed();
        if let Some(armed) = armed.as_mut().filter(|armed| armed.order.counts(call)) {
            if armed.dies_at_the_next {
                die();
            }
            armed.seen += 1;
            if armed.seen == armed.order.index {
                say(&format!("{FIRED} {call}"));
                let fault = armed.fire(call);
                if matches!(armed.order.variant, Variant::UnsentStops | Variant::UnsentStopsBriefly) {
                    self.stop();
                }
                return fault;
            }
        }
        say(&format!("{CALL} {call}"));
        Fault::None
    }

    fn answered(&self, call: &Call, _answer: Answer) {
        let mut armed = self.armed();
        let Some(armed) = armed.as_mut().filter(|armed| armed.at_its_answer.as_ref() == Some(call)) else { return };
        armed.at_its_answer = None;
        if armed.order.variant == Variant::LostStops {
            self.stop();
        } else {
            die();
        }
    }
}

impl Armed {
    fn fire(&mut self, call: &Call) -> Fault {
        let answer = |code| Fault::Answer(StatusCode::from_u16(code).expect("a status code"));
        match self.order.variant {
            Variant::UnsentDies => die(),
            Variant::LostDies | Variant::Behind(_) => {
                self.at_its_answer = Some(call.clone());
                Fault::AnswerLost
            }
            Variant::LostStops => {
                self.at_its_answer = Some(call.clone());
                Fault::None
            }
            Variant::Unsent => Fault::Unsent,
            Variant::Lost => Fault::AnswerLost,
            Variant::Answer(code) => answer(code),
            Variant::AnswerDies(code) => {
                self.dies_at_the_next = true;
                answer(code)
            }
            // What these do is done elsewhere; the call goes its way.
            Variant::UnsentStops
            | Variant::UnsentStopsBriefly
            | Variant::Gone
            | Variant::Storm(_)
            | Variant::Drops
            | Variant::Merges => Fault::None,
        }
    }
}

/// No destructor runs, nothing is sent, no other thread comes to its end.
fn die() -> ! {
    std::process::abort()
}

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    // A supervisor that is gone ends the process by closing stdin.
    let _ = writeln!(out, "{line}");
    let _ = out.flush();
}
