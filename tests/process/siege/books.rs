//! The ledger of a siege: every event of both services, on both brokers, in a few dozen bytes each.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use liveobject_test_support::{Ledger, Message};
use serde::Deserialize;

use super::clock::{Clock, LATE_AFTER};

/// How many brokers there are.
pub const BROKERS: usize = 2;

/// Who accepted an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// The service, over REST.
    Rest,
    /// The actors in a classifier's process.
    Actors,
}

impl By {
    pub const ALL: [Self; 2] = [Self::Rest, Self::Actors];

    /// `r17`, `a17`: tells on the broker whose it is.
    pub fn event_id(self, number: u64) -> String {
        match self {
            Self::Rest => format!("r{number}"),
            Self::Actors => format!("a{number}"),
        }
    }

    fn read(event_id: &str) -> Option<(Self, u64)> {
        let (by, number) = event_id.split_at_checked(1)?;
        let by = if by == "r" { Self::Rest } else { Self::Actors };
        Some((by, number.parse().ok()?))
    }
}

/// What is read of an event's payload.
#[derive(Deserialize)]
struct Payload<'a> {
    event_id: &'a str,
    seq: u64,
    timestamp: DateTime<Utc>,
    #[serde(default)]
    late: bool,
}

/// One service's events: a ledger a broker, because two brokers have no order between them.
#[derive(Debug, Default)]
struct Account {
    brokers: [Ledger<u64>; BROKERS],
    deliveries: usize,
}

impl Account {
    fn distinct(&self) -> usize {
        self.accepted() - self.lost().len() + self.unconfirmed()
    }

    fn accepted(&self) -> usize {
        self.brokers[0].accepted_count()
    }

    fn lost(&self) -> Vec<u64> {
        let [one, other] = &self.brokers;
        one.lost().into_iter().filter(|seq| !other.has_delivered(*seq)).collect()
    }

    fn unconfirmed(&self) -> usize {
        self.brokers.iter().flat_map(Ledger::unconfirmed).collect::<BTreeSet<_>>().len()
    }

    /// What came to the other broker as well has been sent there in between: on this one it may come late, or be left
    /// out of a resend.
    fn out_of_order(&self) -> Vec<String> {
        let [one, other] = &self.brokers;
        let of = |here: &Ledger<u64>, there: &Ledger<u64>| -> Vec<String> {
            let disorder = here.out_of_order().into_iter().filter(|case| !there.has_delivered(case.seq()));
            disorder.map(|case| format!("{case:?}, in {:?}", here.around(case.seq()))).collect()
        };
        [of(one, other), of(other, one)].concat()
    }
}

/// All of it.
#[derive(Debug, Default)]
pub struct Books {
    accounts: [Account; 2],
    /// How many messages each broker has brought.
    pub seen: [usize; BROKERS],
    late: usize,
    /// Live although too old, or late although new, in words.
    wrongly_timed: Vec<String>,
    /// What nobody has sent.
    strange: Vec<String>,
    /// How long a POST took that was answered with a receipt, in microseconds.
    pub posts: Vec<u32>,
    /// Answers that were not receipts.
    pub refused: usize,
}

/// What the books say in the end.
#[derive(Debug)]
pub struct Balance {
    pub by: By,
    pub accepted: usize,
    pub delivered: usize,
    pub unconfirmed: usize,
    pub lost: Vec<u64>,
    pub out_of_order: Vec<String>,
    pub duplicates: usize,
    pub contradictions: Vec<String>,
}

impl Books {
    pub fn accepted(&mut self, by: By, number: u64, seq: u64) {
        for ledger in &mut self.accounts[by as usize].brokers {
            ledger.accepted(number, seq);
        }
    }

    pub fn delivered(&mut self, broker: usize, message: &Message, clock: &Clock) {
        self.seen[broker] += 1;
        if message.payload.is_empty() {
            // An event that stood retained is taken away: its camera, the prefix or the setting is gone.
            return;
        }
        let payload: Result<Payload, _> = serde_json::from_slice(&message.payload);
        let event = payload.as_ref().ok().and_then(|payload| By::read(payload.event_id));
        let (Ok(payload), Some((by, number))) = (payload, event) else {
            self.strange.push(message.text());
            return;
        };
        let account = &mut self.accounts[by as usize];
        account.brokers[broker].delivered(number, payload.seq);
        account.deliveries += 1;
        self.late += usize::from(payload.late);
        let (least, most) = clock.ages(payload.timestamp, message.at);
        let on_history = message.topic.ends_with("/history");
        let wrong = (!on_history && least > LATE_AFTER) || (on_history && most <= LATE_AFTER);
        if wrong || payload.late != on_history {
            let topic = &message.topic;
            self.wrongly_timed.push(format!("{} on {topic}, {least}..{most} s old", payload.event_id));
        }
    }

    pub fn accepted_count(&self) -> usize {
        self.accounts.iter().map(Account::accepted).sum()
    }

    /// How many accepted events have not been seen yet.
    pub fn missing(&self, by: By) -> usize {
        self.accounts[by as usize].lost().len()
    }

    pub fn late(&self) -> usize {
        self.late
    }

    /// What must not be, beside loss and disorder.
    pub fn faults(&self) -> Vec<String> {
        let some = |what: &str, cases: &[String]| {
            (!cases.is_empty()).then(|| format!("{} {what}: {:?}", cases.len(), &cases[..cases.len().min(5)]))
        };
        [
            some("events on the wrong topic for their age", &self.wrongly_timed),
            some("strange messages", &self.strange),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    pub fn balance(&self, by: By) -> Balance {
        let account = &self.accounts[by as usize];
        let delivered = account.distinct();
        let contradictions =
            account.brokers.iter().flat_map(|ledger| ledger.contradictions().to_vec()).collect();
        Balance {
            by,
            accepted: account.accepted(),
            delivered,
            unconfirmed: account.unconfirmed(),
            lost: account.lost(),
            out_of_order: account.out_of_order(),
            duplicates: account.deliveries - delivered,
            contradictions,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use chrono::SecondsFormat;
    use tokio::time::Instant;

    use super::*;

    /// Books of events that were accepted, `r1` to `r9`.
    fn books() -> Books {
        let mut books = Books::default();
        (1..=9).for_each(|number| books.accepted(By::Rest, number, number));
        books
    }

    fn deliver(books: &mut Books, clock: &Clock, broker: usize, numbers: &[u64]) {
        for &number in numbers {
            books.delivered(broker, &message(number, Duration::ZERO, "event"), clock);
        }
    }

    fn message(number: u64, age: Duration, topic: &str) -> Message {
        #[expect(clippy::disallowed_methods, reason = "a message that comes now")]
        let happened = (Utc::now() - age).to_rfc3339_opts(SecondsFormat::Micros, true);
        let late = if topic == "history" { r#","late":true"# } else { "" };
        let payload = format!(r#"{{"event_id":"r{number}","seq":{number},"timestamp":"{happened}"{late}}}"#);
        Message {
            order: 0,
            at: Instant::now(),
            topic: format!("liveobject/camera/door/{topic}"),
            payload: payload.into(),
            qos: 1,
            retain: false,
            dup: false,
            message_expiry: None,
        }
    }

    #[test]
    fn what_came_to_neither_broker_is_lost() {
        let (mut books, clock) = (books(), Clock::new());
        deliver(&mut books, &clock, 0, &[1, 2, 3, 7, 8]);
        deliver(&mut books, &clock, 1, &[4, 5, 6, 7]);
        let balance = books.balance(By::Rest);
        assert_eq!((balance.accepted, balance.delivered, balance.duplicates), (9, 8, 1));
        assert_eq!((balance.lost, balance.out_of_order), (vec![9], Vec::<String>::new()));
    }

    #[test]
    fn what_is_overtaken_on_one_broker_is_out_of_order_unless_the_other_had_it() {
        let (mut books, clock) = (books(), Clock::new());
        deliver(&mut books, &clock, 0, &[1, 2, 5, 3, 4]);
        deliver(&mut books, &clock, 1, &[3]);
        let told = ["Late { seq: 4, after: 5 }, in [1, 2, 5, 3, 4]"];
        assert_eq!(books.balance(By::Rest).out_of_order, told);
    }

    #[test]
    fn an_event_on_the_wrong_topic_for_its_age_is_a_fault() {
        let (mut books, clock) = (books(), Clock::new());
        let hour = Duration::from_hours(1);
        books.delivered(0, &message(1, Duration::ZERO, "event"), &clock);
        books.delivered(0, &message(2, hour, "history"), &clock);
        assert_eq!(books.faults(), Vec::<String>::new());
        books.delivered(0, &message(3, hour, "event"), &clock);
        books.delivered(0, &message(4, Duration::ZERO, "history"), &clock);
        assert!(books.faults()[0].starts_with("2 events on the wrong topic"), "{:?}", books.faults());
        // By a clock that jumped a moment ago both can have been right.
        let (mut books, ahead, back) = (self::books(), Clock::new(), Clock::new());
        ahead.set(3600, false);
        books.delivered(0, &message(4, Duration::ZERO, "history"), &ahead);
        back.set(-3600, false);
        books.delivered(0, &message(3, hour, "event"), &back);
        assert_eq!(books.faults(), Vec::<String>::new());
        // Unless nothing was under way.
        ahead.set(3600, true);
        books.delivered(0, &message(5, Duration::ZERO, "event"), &ahead);
        assert!(books.faults()[0].starts_with("1 events on the wrong topic"), "{:?}", books.faults());
    }
}
