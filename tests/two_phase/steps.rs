//! A proxy that dies, or hangs, at each step of a commit: another one finishes what it has left.

use std::time::Duration;

use nix::sys::signal::Signal;
use pgring::demo::sample::APP;

use crate::stage::{Bank, said};
use crate::support::raw::{Raw, query};
use crate::support::{self, Proxy, eventually_within};

/// The grace period, a decider that has to be ended, and a slow machine.
const HEALED: Duration = Duration::from_secs(60);

/// What must be at the end.
#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    Nowhere,
    Everywhere,
    Either,
}

const STEPS: [(&str, End); 8] = [
    ("prepare:before", End::Nowhere),
    ("prepare:sent", End::Nowhere),
    ("prepare:after", End::Nowhere),
    ("commit:before", End::Nowhere),
    ("commit:sent", End::Either),
    ("commit:after", End::Everywhere),
    ("commit-prepared:sent", End::Everywhere),
    ("commit-prepared:after", End::Everywhere),
];

#[test]
fn a_proxy_dies() {
    let servers = support::servers(2);
    std::thread::scope(|scope| {
        for (step, end) in STEPS {
            let servers = &servers;
            scope.spawn(move || {
                let bank = Bank::open(servers);
                let other = Proxy::start(bank.config());
                let proxy = Proxy::start_to_fail(bank.config(), &format!("{step}:kill"));
                let mut raw = Raw::login(&proxy.address(), APP, &bank.name);
                bank.begin_transfer(&mut raw, 30);
                raw.send(&query("COMMIT"));
                let told = raw.rest().into_iter().filter(|frame| b"CEZ".contains(&frame.tag)).count();
                assert_eq!(told, 0, "{step}");
                healed(&bank, step, end);
                // Both go on.
                let mut raw = Raw::login(&other.address(), APP, &bank.name);
                let before = bank.balances();
                bank.begin_transfer(&mut raw, 1);
                assert_eq!(said(&mut raw, "COMMIT"), "COMMIT I", "{step}");
                assert_eq!(bank.balances(), [before[0] - 1, before[1] + 1], "{step}");
            });
        }
    });
}

fn healed(bank: &Bank<'_>, step: &str, end: End) {
    eventually_within(HEALED, &format!("nothing is in doubt after {step}"), || bank.prepared() == 0);
    let balances = bank.balances();
    match end {
        End::Nowhere => assert_eq!(balances, [100, 100], "{step}"),
        End::Everywhere => assert_eq!(balances, [70, 130], "{step}"),
        End::Either => assert!([[100, 100], [70, 130]].contains(&balances), "{step}: {balances:?}"),
    }
}

/// A proxy that hangs for longer than anybody waits for it: what it says when it goes on is true.
#[test]
fn a_proxy_hangs() {
    let servers = support::servers(2);
    std::thread::scope(|scope| {
        for (step, end) in STEPS.into_iter().filter(|(step, _)| !step.ends_with(":sent")) {
            let servers = &servers;
            scope.spawn(move || {
                let bank = Bank::open(servers);
                let _other = Proxy::start(bank.config());
                let mut proxy = Proxy::start_to_fail(bank.config(), &format!("{step}:stop"));
                let mut raw = Raw::login(&proxy.address(), APP, &bank.name);
                raw.set_patience(HEALED);
                bank.begin_transfer(&mut raw, 30);
                raw.send(&query("COMMIT"));
                eventually_within(HEALED, "it hangs", || proxy.log().contains("fail point"));
                // Before anything is prepared there is nothing to be recovered: it goes on when it wakes.
                if step != "prepare:before" {
                    healed(&bank, step, end);
                }
                proxy.signal(Signal::SIGCONT);
                let answer = raw.until(b'Z', 1);
                let committed = answer.iter().any(|frame| frame.tag == b'C');
                let balances = if committed { [70, 130] } else { [100, 100] };
                assert_eq!(bank.balances(), balances, "{step}: {answer:?}");
                assert_eq!(bank.prepared(), 0, "{step}");
                assert!(committed || end != End::Everywhere, "{step}: {answer:?}");
            });
        }
    });
}
