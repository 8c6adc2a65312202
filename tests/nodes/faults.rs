//! The faults: of a node, of its lines, and of what all nodes share.

use std::time::Duration;

use liveobject_test_support::Proxy;
use tokio::time::{Instant, sleep};

use crate::{
    cluster::{Cluster, Node},
    dice::Dice,
};

/// Time within which another node claims the log.
const CLAIM: Duration = Duration::from_secs(15);
const POLL: Duration = Duration::from_millis(5);
/// How long a node whose line to the broker is cut still accepts events.
const ACCEPTS_OFFLINE: Duration = Duration::from_millis(1500);
/// Time within which the owner begins a commit.
const IN_COMMIT: Duration = Duration::from_millis(300);
/// Time within which a login that was sent reaches the broker.
const LOGIN: Duration = Duration::from_millis(300);
const MAX_DOWN: Duration = Duration::from_secs(7);

/// A fault of one node.
#[derive(Debug, Clone, Copy)]
pub enum NodeFault {
    /// SIGKILL, and a start after this time.
    Kill(Duration),
    /// SIGTERM, and a start this long after its end.
    Stop(Duration),
    /// SIGSTOP for this time.
    Pause(Duration),
    Database(LineFault),
    Broker(LineFault),
    /// Nothing passes on its line to the broker, and a moment later on that to the database, for this time. What is on
    /// its way arrives afterwards.
    Offline(Duration),
    /// Its clock is set to this many seconds from the true time.
    Clock(i64),
    /// SIGKILL while its commits wait in the database after the fence, for this many seconds.
    KillInCommit(u32, Duration),
    /// SIGSTOP for this time while its commits wait in the database after the fence, for this many seconds.
    PauseInCommit(u32, Duration),
}

/// A fault of a line.
#[derive(Debug, Clone, Copy)]
pub enum LineFault {
    Cut,
    Reset,
    Stall(Duration),
    HalfOpen(Duration),
    Refuse(Duration),
}

/// A fault that affects all nodes.
#[derive(Debug, Clone, Copy)]
pub enum SharedFault {
    /// The broker is stopped, and started after this time.
    BrokerRestart(Duration),
    BrokerFrozen(Duration),
    /// The server crashes and starts again.
    ServerCrash,
    ServerFrozen(Duration),
    /// The standby of the server becomes the primary one. If there is a time, the previous primary lives that much
    /// longer, and the owner uses it.
    ServerFailover(Option<Duration>),
    /// The owner is killed, and the node that takes over is paused the first duration after its claim, for the second
    /// one.
    ClaimantPaused(Duration, Duration),
    /// The owner is killed, and the node that takes over is paused for this time while its login is on its way to the
    /// broker. The login arrives when another node has taken over, and its answer is waiting when the pause ends.
    ClaimantPausedInLogin(Duration),
}

impl NodeFault {
    /// Returns a random fault. `clocks` permits wrong clocks.
    pub fn random(dice: &mut Dice, clocks: bool) -> Self {
        match dice.below(20) {
            0 | 1 => Self::Kill(dice.millis(6000, 9000)),
            2 => Self::Kill(dice.millis(0, 2000)),
            3 | 4 => Self::Stop(dice.millis(0, 3000)),
            5 | 6 => Self::Pause(dice.millis(1000, 12_000)),
            7..=9 => Self::Database(LineFault::random(dice)),
            10 | 11 => Self::Broker(LineFault::random(dice)),
            14..=16 => Self::Offline(dice.millis(5000, 10_000)),
            12 if clocks => Self::Clock(*dice.pick(&[-7200, -60, 0, 60, 7200])),
            12 | 13 => Self::Pause(dice.millis(4000, 7000)),
            17 => Self::PauseInCommit(dice.below(6) + 5, dice.millis(9000, 13_000)),
            _ => Self::KillInCommit(dice.below(8) + 2, dice.shorter_than(MAX_DOWN)),
        }
    }

    pub fn kind(self) -> &'static str {
        match self {
            Self::Kill(down) if down > Duration::from_secs(5) => "killed and away",
            Self::Kill(_) => "killed and restarted",
            Self::Stop(_) => "stopped",
            Self::Pause(pause) if pause > Duration::from_secs(6) => "paused for long",
            Self::Pause(_) => "paused for a moment",
            Self::Database(LineFault::Cut | LineFault::Reset) => "database cut",
            Self::Database(_) => "database away",
            Self::Broker(_) => "broker line",
            Self::Offline(_) => "offline",
            Self::Clock(_) => "clock",
            Self::KillInCommit(..) => "killed in a commit",
            Self::PauseInCommit(..) => "paused in a commit",
        }
    }

    /// Returns how long it prevents a takeover although other nodes work.
    pub fn prevents(self) -> Duration {
        match self {
            Self::KillInCommit(seconds, _) | Self::PauseInCommit(seconds, _) => {
                Duration::from_secs(seconds.into())
            }
            _ => Duration::ZERO,
        }
    }

    /// Returns how long the node still accepts events.
    pub fn accepts_for(self) -> Duration {
        if matches!(self, Self::Offline(_)) { ACCEPTS_OFFLINE } else { Duration::ZERO }
    }

    pub async fn inject(self, node: &mut Node, cluster: &Cluster) {
        match self {
            Self::Kill(down) => {
                node.kill().await;
                sleep(down).await;
                node.start();
            }
            Self::Stop(down) => {
                node.stop().await;
                sleep(down).await;
                node.start();
            }
            Self::Pause(pause) => {
                node.freeze().await;
                sleep(pause).await;
                node.thaw();
            }
            Self::Database(fault) => fault.inject(&node.to_database).await,
            Self::Broker(fault) => fault.inject(&node.to_broker).await,
            Self::Offline(pause) => {
                node.to_broker.stall();
                sleep(ACCEPTS_OFFLINE).await;
                node.to_database.stall();
                sleep(pause).await;
                node.to_broker.flow();
                node.to_database.flow();
            }
            Self::Clock(seconds) => node.clock.set(seconds),
            Self::KillInCommit(pause, down) => {
                cluster.database.pause_commits(pause, IN_COMMIT).await;
                sleep(IN_COMMIT).await;
                node.kill().await;
                sleep(down).await;
                node.start();
            }
            Self::PauseInCommit(in_commit, pause) => {
                cluster.database.pause_commits(in_commit, IN_COMMIT).await;
                sleep(IN_COMMIT).await;
                node.freeze().await;
                sleep(pause).await;
                node.thaw();
            }
        }
    }
}

impl LineFault {
    fn random(dice: &mut Dice) -> Self {
        match dice.below(6) {
            0 => Self::Cut,
            1 => Self::Reset,
            2 => Self::HalfOpen(dice.millis(1000, 12_000)),
            3 => Self::Refuse(dice.millis(500, 10_000)),
            _ => Self::Stall(dice.millis(500, 12_000)),
        }
    }

    async fn inject(self, line: &Proxy) {
        match self {
            Self::Cut => line.cut().await,
            Self::Reset => line.reset().await,
            Self::Stall(pause) => {
                line.stall();
                sleep(pause).await;
                line.flow();
            }
            Self::HalfOpen(pause) => {
                line.half_open();
                sleep(pause).await;
                line.flow();
            }
            Self::Refuse(pause) => {
                line.refuse().await;
                line.cut().await;
                sleep(pause).await;
                line.accept().await;
            }
        }
    }
}

impl SharedFault {
    pub fn random(dice: &mut Dice, has_standby: bool) -> Self {
        match dice.below(8) {
            3 | 4 if has_standby => {
                Self::ServerFailover((dice.below(2) == 0).then(|| dice.millis(2000, 12_000)))
            }
            5 => Self::ClaimantPausedInLogin(dice.millis(7000, 9000)),
            6.. => Self::ClaimantPaused(dice.millis(0, 1000), dice.millis(6000, 9000)),
            0 => Self::BrokerRestart(dice.millis(0, 3000)),
            1 => Self::BrokerFrozen(dice.millis(500, 8000)),
            2 => Self::ServerCrash,
            _ => Self::ServerFrozen(dice.millis(500, 8000)),
        }
    }

    pub fn kind(self) -> &'static str {
        match self {
            Self::BrokerRestart(_) => "broker restarted",
            Self::BrokerFrozen(_) => "broker frozen",
            Self::ServerCrash => "server crashed",
            Self::ServerFrozen(_) => "server frozen",
            Self::ServerFailover(_) => "server failed over",
            Self::ClaimantPaused(..) => "claimant paused",
            Self::ClaimantPausedInLogin(_) => "claimant paused in its login",
        }
    }

    pub async fn inject(self, cluster: &Cluster) {
        match self {
            Self::BrokerRestart(down) => {
                let mut broker = cluster.broker.lock().await;
                broker.stop().await;
                sleep(down).await;
                broker.resume().await;
            }
            Self::BrokerFrozen(pause) => {
                let mut broker = cluster.broker.lock().await;
                broker.freeze();
                sleep(pause).await;
                broker.thaw();
            }
            Self::ServerCrash => {
                let _alone = cluster.server.lock().await;
                cluster.database.crash().await;
            }
            Self::ServerFrozen(pause) => {
                let _alone = cluster.server.lock().await;
                let server = cluster.database.primary();
                server.freeze();
                sleep(pause).await;
                server.thaw();
            }
            Self::ServerFailover(after) => {
                let _alone = cluster.server.lock().await;
                cluster.fail_over(after).await;
            }
            Self::ClaimantPausedInLogin(pause) => pause_claimant_in_login(cluster, pause).await,
            Self::ClaimantPaused(after, pause) => pause_claimant(cluster, after, pause).await,
        }
    }
}

/// Waits until another node than this one owns the log.
async fn claimed_from(cluster: &Cluster, owner: usize) -> Option<usize> {
    let since = Instant::now();
    loop {
        match cluster.owner() {
            Some(node) if node != owner => return Some(node),
            _ if since.elapsed() > CLAIM => return None,
            _ => sleep(POLL).await,
        }
    }
}

async fn pause_claimant(cluster: &Cluster, after: Duration, pause: Duration) {
    let Some(owner) = cluster.owner() else { return };
    let mut killed = cluster.nodes[owner].lock().await;
    killed.kill().await;
    if let Some(claimant) = claimed_from(cluster, owner).await {
        sleep(after).await;
        let mut claimant = cluster.nodes[claimant].lock().await;
        claimant.freeze().await;
        sleep(pause).await;
        claimant.thaw();
    }
    killed.start();
}

async fn pause_claimant_in_login(cluster: &Cluster, pause: Duration) {
    let Some(owner) = cluster.owner() else { return };
    let mut killed = cluster.nodes[owner].lock().await;
    killed.kill().await;
    let lines = &cluster.to_broker;
    for line in lines {
        line.stall();
    }
    let counts: Vec<_> = lines.iter().map(|line| line.connections().len()).collect();
    let claimant = claimed_from(cluster, owner).await;
    if let Some(index) = claimant {
        let since = Instant::now();
        while lines[index].connections().len() == counts[index] && since.elapsed() < CLAIM {
            sleep(POLL).await;
        }
        sleep(LOGIN).await;
        let mut claimant = cluster.nodes[index].lock().await;
        claimant.freeze().await;
        let others = lines.iter().enumerate().filter(|(line, _)| *line != index);
        for (_, line) in others {
            line.flow();
        }
        sleep(pause).await;
        lines[index].flow();
        sleep(LOGIN).await;
        claimant.thaw();
    }
    for line in lines {
        line.flow();
    }
    killed.start();
}
