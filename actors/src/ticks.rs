//! Regular checks, at the same moments in the whole process: each moment wakes the processor once or twice, however
//! many checks there are. An idle service is woken 3 times a second less often than if each check had its own rhythm.

use std::{sync::OnceLock, time::Duration};

use actix::{Actor, AsyncContext as _, Context};
use tokio::time::Instant;

/// Returns the time until the next moment of a check that runs this often.
pub fn until_next(every: Duration) -> Duration {
    static FIRST: OnceLock<Instant> = OnceLock::new();
    remaining(FIRST.get_or_init(Instant::now).elapsed(), every)
}

/// Returns the time until the next multiple of `every`, which is never now.
fn remaining(elapsed: Duration, every: Duration) -> Duration {
    let (elapsed, period) = (elapsed.as_nanos(), every.as_nanos().max(1));
    Duration::from_nanos_u128(period - elapsed % period)
}

/// Calls `check` this often, as long as the actor runs.
pub(crate) fn run<A>(ctx: &mut Context<A>, every: Duration, check: fn(&mut A, &mut Context<A>))
where
    A: Actor<Context = Context<A>>,
{
    ctx.run_later(until_next(every), move |act, ctx| {
        check(act, ctx);
        run(ctx, every, check);
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checks_are_due_at_the_same_moments_whenever_they_began() {
        let remaining = |elapsed, every| {
            remaining(Duration::from_millis(elapsed), Duration::from_millis(every)).as_millis()
        };
        assert_eq!([0, 1, 999, 1000].map(|elapsed| remaining(elapsed, 1000)), [1000, 999, 1, 1000]);
        assert_eq!([500, 1000, 2000].map(|every| remaining(3700, every)), [300, 300, 300]);
        assert_eq!(remaining(5, 0), 0, "not long, and no division by zero");
    }
}
