//! The controller's process: the library's controller, and an observer that fails the call it was told to.
//!
//! Orders come on stdin, one JSON line each; every call is told on stdout before it is made. When stdin ends so does the
//! process: it does not outlive its supervisor.

use crate::fault::{Order, Variant};
use clap::Parser;
use http::StatusCode;
use std::io::{BufRead as _, Write as _};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
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
    let code = runtime.block_on(controller::run(Arguments::parse().options, saboteur));
    runtime.shutdown_background();
    code
}

#[derive(Default)]
struct Saboteur(Mutex<Option<Armed>>);

/// An order, and how far it is.
struct Armed {
    order: Order,
    seen: usize,
    dies_when_answered: Option<Call>,
    dies_at_the_next: bool,
}

impl Saboteur {
    fn obey(&self, line: &str) {
        let order: Option<Order> = serde_json::from_str(line).ok();
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) =
            order.map(|order| Armed { order, seen: 0, dies_when_answered: None, dies_at_the_next: false });
    }
}

impl CallObserver for Saboteur {
    fn plan(&self, call: &Call) -> Fault {
        let mut armed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(armed) = armed.as_mut().filter(|armed| armed.order.counts(call)) {
            if armed.dies_at_the_next {
                die();
            }
            armed.seen += 1;
            if armed.seen == armed.order.index {
                say(&format!("{FIRED} {call}"));
                return armed.fire(call);
            }
        }
        say(&format!("{CALL} {call}"));
        Fault::None
    }

    fn answered(&self, call: &Call, _answer: Answer) {
        let armed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if armed.as_ref().is_some_and(|armed| armed.dies_when_answered.as_ref() == Some(call)) {
            die();
        }
    }
}

impl Armed {
    fn fire(&mut self, call: &Call) -> Fault {
        let answer = |code| Fault::Answer(StatusCode::from_u16(code).expect("a status code"));
        match self.order.variant {
            Variant::UnsentDies => die(),
            Variant::LostDies => {
                self.dies_when_answered = Some(call.clone());
                Fault::AnswerLost
            }
            Variant::Unsent => Fault::Unsent,
            Variant::Lost => Fault::AnswerLost,
            Variant::Answer(code) => answer(code),
            Variant::AnswerDies(code) => {
                self.dies_at_the_next = true;
                answer(code)
            }
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
