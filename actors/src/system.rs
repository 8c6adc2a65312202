//! The actor system of a thread.

use actix::SystemRunner;

/// An actor system that may end while an actor waits for the database. The connection to the database returns to its
/// pool when the actor is dropped, and that panics if there is no tokio context, as when [`actix::System`] ends. Two
/// such panics in one actor abort the process.
///
/// For tests, use `#[actix_rt::test(system = "…")]`: the attributes of actix and actix-web ignore `system`.
#[derive(Debug)]
pub struct System {
    runner: SystemRunner,
}

impl System {
    /// Creates a system for the current thread.
    ///
    /// # Panics
    ///
    /// If the operating system refuses a resource that the runtime needs.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "the attribute for tests calls `new`")]
    pub fn new() -> Self {
        #[expect(clippy::disallowed_methods, reason = "this is the replacement")]
        let runner = actix::System::new();
        Self { runner }
    }

    /// Runs the future to its end, and then ends the system.
    pub fn block_on<F: Future>(self, future: F) -> F::Output {
        let handle = self.runner.block_on(async { tokio::runtime::Handle::current() });
        // Variables are dropped in reverse order: the system before its context, even if the future panics.
        let _context = handle.enter();
        let runner = self.runner;
        runner.block_on(future)
    }
}

#[cfg(test)]
mod tests {
    use crate::store::Store;

    #[actix_rt::test(system = "super::System")]
    async fn a_system_may_end_while_the_database_is_in_use() {
        let dir = tempfile::tempdir().unwrap();
        // With one connection, tokio catches the panic.
        let a = Store::open_file(&dir.path().join("a.db")).await.unwrap();
        let b = Store::open_file(&dir.path().join("b.db")).await.unwrap();
        let (occupied, is_occupied) = tokio::sync::oneshot::channel();
        tokio::task::spawn_local(async move {
            let _writers = (a.occupy_writer().await.unwrap(), b.occupy_writer().await.unwrap());
            occupied.send(()).unwrap();
            std::future::pending::<()>().await;
        });
        is_occupied.await.unwrap();
    }
}
