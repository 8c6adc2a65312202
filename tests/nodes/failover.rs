//! The test with random faults. It ends with an account of every event, every message and every change of the owner.

use std::{sync::Mutex, time::Duration};

use liveobject_test_support::FaultLog;
use tokio::time::{Instant, sleep};

use crate::{
    checker::{Check, check},
    cluster::{Cluster, lock},
    dice::Dice,
    faults::{NodeFault, SharedFault},
    load::Load,
    records::{Fault, Records},
    report::Report,
};

const SECONDS: u64 = 60;
const NODES: usize = 3;
/// After a fault, events must be accepted again within this time.
const RECOVERY: Duration = Duration::from_secs(45);
/// If no fault affected the nodes for this long, the next one is alone.
const ALONE_AFTER: Duration = Duration::from_secs(2);
const POLL: Duration = Duration::from_millis(50);

/// A fault that has been chosen.
#[derive(Debug, Clone, Copy)]
enum Chosen {
    Node(usize, NodeFault),
    Shared(SharedFault),
}

impl Chosen {
    fn kind(self) -> &'static str {
        match self {
            Self::Node(_, fault) => fault.kind(),
            Self::Shared(fault) => fault.kind(),
        }
    }
}

struct Run {
    cluster: Cluster,
    load: Load,
    dice: Dice,
    log: FaultLog,
    faults: Mutex<Vec<Fault>>,
    problems: Vec<String>,
    /// Whether wrong clocks are among the faults. Then events may become late.
    clocks: bool,
    /// Whether the database server has a synchronous standby.
    has_standby: bool,
    /// The kinds of faults to inject, separated by commas; empty for all.
    kinds: String,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_node_takes_over_and_no_event_is_lost_or_overtaken() {
    let number = |name: &str, default| {
        std::env::var(name).map_or(default, |text| text.parse().expect("it is a number"))
    };
    let (seconds, nodes) = (number("FAILOVER_SECONDS", SECONDS), number("FAILOVER_NODES", NODES as u64));
    let dice = Dice::new("failover");
    let seed = dice.seed();
    let cluster = Cluster::start(usize::try_from(nodes).expect("small")).await;
    let load = Load::start(&cluster, &dice.sibling(1 << 20));
    let log = FaultLog::start("FAILOVER_LOG", cluster.start);
    let kinds = std::env::var("FAILOVER_FAULTS").unwrap_or_default();
    let clocks = kinds.contains("clock") || dice.sibling(1 << 21).below(3) == 0;
    let has_standby = kinds.contains("failed over") || dice.sibling(1 << 22).below(2) == 0;
    if has_standby {
        cluster.database.add_standby().await;
    }
    let (faults, problems) = (Mutex::default(), Vec::new());
    let mut run = Run { cluster, load, dice, log, faults, problems, clocks, has_standby, kinds };
    let end = Instant::now() + Duration::from_secs(seconds);
    for number in 1.. {
        if Instant::now() >= end {
            break;
        }
        Box::pin(run.round(number)).await;
    }
    let Run { cluster, load, log, faults, problems, .. } = run;
    for node in &cluster.nodes {
        node.lock().await.clock.set(0);
    }
    log.record("the end of the faults");
    let mut records = Records { problems, ..Records::default() };
    let figures = load.stop(&mut records).await;
    cluster.settle(records.receipts.len()).await;
    records.faults = faults.into_inner().expect("no fault has panicked");
    cluster.check_shared(&mut records).await;
    cluster.complete(&mut records).await;
    for node in &cluster.nodes {
        node.lock().await.stop().await;
    }

    let mut findings = check(&records);
    if clocks {
        findings.retain(|finding| !matches!(finding.check, Check::History | Check::Counts));
    }
    if std::env::var_os("FAILOVER_SECONDS").is_none() {
        // On a busy machine, anything can take longer.
        findings.retain(|finding| finding.check != Check::Outage);
    }
    println!("{}", Report { records: &records, findings: &findings, load: figures });
    println!("seed={seed} seconds={seconds}");
    assert!(findings.is_empty(), "{findings:#?}");
    let enough = usize::try_from(seconds).expect("small") * 2;
    assert!(records.receipts.len() > enough, "too few events were accepted for a meaningful test");
}

impl Run {
    /// Injects one fault, or several at the same time, and waits until events are accepted again.
    async fn round(&mut self, number: u64) {
        let mut dice = self.dice.sibling(number);
        sleep(dice.millis(1000, 5000)).await;
        let owner = self.cluster.owner();
        let chosen = self.choose(&mut dice, owner);
        let is_alone = chosen.len() == 1 && self.was_quiet();
        match chosen[..] {
            [first] => self.inject(first, owner, is_alone).await,
            [first, second] => {
                tokio::join!(self.inject(first, owner, false), self.inject(second, owner, false));
            }
            [first, second, third, ..] => {
                tokio::join!(
                    self.inject(first, owner, false),
                    self.inject(second, owner, false),
                    self.inject(third, owner, false)
                );
            }
            [] => unreachable!("a fault is chosen"),
        }
        self.recover().await;
    }

    /// Chooses what to do. `FAILOVER_FAULTS` limits it to some kinds.
    fn choose(&self, dice: &mut Dice, owner: Option<usize>) -> Vec<Chosen> {
        loop {
            let chosen = self.choose_any(dice, owner);
            let is_wanted = |chosen: &Chosen| {
                self.kinds.is_empty() || self.kinds.split(',').any(|kind| kind == chosen.kind())
            };
            if chosen.iter().all(is_wanted) {
                return chosen;
            }
        }
    }

    /// Chooses mostly a single fault of a node, mostly of the owner.
    fn choose_any(&self, dice: &mut Dice, owner: Option<usize>) -> Vec<Chosen> {
        let nodes = self.cluster.nodes.len();
        let of_owner = dice.below(10) < 7;
        let any = usize::try_from(dice.below(u32::try_from(nodes).expect("small"))).expect("small");
        let first = owner.filter(|_| of_owner).unwrap_or(any);
        let mut chosen = match dice.below(10) {
            0 | 1 => vec![Chosen::Shared(SharedFault::random(dice, self.has_standby))],
            _ => vec![Chosen::Node(first, NodeFault::random(dice, self.clocks))],
        };
        if dice.below(4) == 0 {
            // Each node at most once.
            chosen.push(Chosen::Node((first + 1) % nodes, NodeFault::random(dice, self.clocks)));
            if dice.below(2) == 0 {
                chosen.push(Chosen::Shared(SharedFault::random(dice, self.has_standby)));
            }
        }
        chosen
    }

    fn was_quiet(&self) -> bool {
        let now = self.cluster.now();
        lock(&self.faults).iter().all(|fault| fault.to + ALONE_AFTER < now)
    }

    async fn inject(&self, chosen: Chosen, owner: Option<usize>, is_alone: bool) {
        let cluster = &self.cluster;
        let (node, prevents, accepts_for) = match chosen {
            Chosen::Node(node, fault) => (Some(node), fault.prevents(), fault.accepts_for()),
            Chosen::Shared(_) => (None, Duration::ZERO, Duration::ZERO),
        };
        let kind = chosen.kind();
        let of_owner = node.is_some() && node == owner;
        let text = match chosen {
            Chosen::Node(node, fault) if of_owner => format!("node {node}, the owner: {fault:?}"),
            Chosen::Node(node, fault) => format!("node {node}: {fault:?}"),
            Chosen::Shared(fault) => format!("{fault:?}"),
        };
        self.log.record(&text);
        let from = cluster.now() + accepts_for;
        match chosen {
            Chosen::Node(node, fault) => fault.inject(&mut *cluster.nodes[node].lock().await, cluster).await,
            Chosen::Shared(fault) => fault.inject(cluster).await,
        }
        let to = cluster.now();
        lock(&self.faults).push(Fault { kind, text, node, of_owner, is_alone, prevents, from, to });
    }

    /// Waits until events are accepted again, and starts the nodes that have exited.
    async fn recover(&mut self) {
        let (since, from) = (Instant::now(), self.cluster.now());
        while !self.load.has_accepted_since(from) {
            if since.elapsed() > RECOVERY {
                self.log.record("no event is accepted");
                self.problems.push(format!("no event was accepted for {RECOVERY:?} from {from:.1?}"));
                break;
            }
            sleep(POLL).await;
        }
        for node in &self.cluster.nodes {
            node.lock().await.revive().await;
        }
    }
}
