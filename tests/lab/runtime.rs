//! A tokio runtime inside a node.

use std::future::Future;
use std::panic::resume_unwind;
use std::thread;
use std::time::Duration;

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::task::JoinHandle;

use crate::error::{Error, Result};
use crate::node::Node;

/// How long a dropped runtime waits for blocking tasks that do not end.
const PATIENCE: Duration = Duration::from_secs(5);

/// A tokio runtime with all its threads, workers and blocking ones, inside one [`Node`].
///
/// A plain `Runtime` would run what it is given to `block_on` on the calling thread, which is
/// elsewhere; [`block_on`](Self::block_on) of this one is inside too.
#[derive(Debug)]
pub struct NodeRuntime {
    node: Node,
    runtime: Option<Runtime>,
}

impl Node {
    /// Starts a multi-threaded runtime whose every thread is inside this node.
    ///
    /// # Errors
    /// When the threads cannot be had.
    pub fn runtime(&self) -> Result<NodeRuntime> {
        let inside = self.clone();
        let runtime = Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name(self.name())
            .on_thread_start(move || inside.enter_thread())
            .enable_all()
            .build()
            .map_err(|e| Error::system(format!("a runtime in {}", self.name()), e))?;
        Ok(NodeRuntime {
            node: self.clone(),
            runtime: Some(runtime),
        })
    }
}

impl NodeRuntime {
    /// Runs a future to its end, on a thread inside the node.
    ///
    /// # Panics
    /// With the future's own panic.
    pub fn block_on<F>(&self, future: F) -> F::Output
    where
        F: Future + Send,
        F::Output: Send,
    {
        self.node.run(|| self.inner().block_on(future))
    }

    /// Starts a task on the node's threads.
    pub fn spawn<F>(&self, future: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.inner().spawn(future)
    }

    /// The runtime's handle. Mind that its `block_on` runs on the calling thread.
    #[must_use]
    pub fn handle(&self) -> &Handle {
        self.inner().handle()
    }

    fn inner(&self) -> &Runtime {
        self.runtime
            .as_ref()
            .expect("there is a runtime until drop")
    }
}

impl Drop for NodeRuntime {
    fn drop(&mut self) {
        let Some(runtime) = self.runtime.take() else {
            return;
        };
        // On a thread of its own: a runtime must not be waited for inside another one.
        thread::scope(|scope| {
            scope
                .spawn(|| runtime.shutdown_timeout(PATIENCE))
                .join()
                .unwrap_or_else(|panic| resume_unwind(panic));
        });
    }
}
