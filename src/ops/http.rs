//! `/metrics` and `/healthz` over HTTP, on a thread of its own.
//!
//! Purpose: be scraped without touching a thread that records.
//! Invariants: it listens only where `--metrics` says; it answers GET and nothing else; stopping it
//! takes at most [`STOP_WAIT`], whatever a client does.
//! Non-goals: the console and its API (another process), TLS and passwords (bind it to loopback or a
//! management network).
//! Sources: the Prometheus text exposition format.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::sync::oneshot;

use super::metrics::Metrics;

/// How long clients may take to end after [`Server::stop`].
pub const STOP_WAIT: Duration = Duration::from_millis(500);

/// Why nothing listens; its text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The address cannot be bound.
    #[error("cannot serve metrics on {address}: {source}; give another --metrics ADDR")]
    Bind {
        /// As given.
        address: SocketAddr,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// No thread or no runtime.
    #[error("cannot start the metrics thread: {0}")]
    Start(std::io::Error),
}

/// Says whether recording works: `Err` has the reason, for people.
pub type Health = Box<dyn Fn() -> Result<(), String> + Send + Sync>;

/// A running server; dropping it stops it too.
pub struct Server {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

struct Answers {
    metrics: Metrics,
    health: Health,
}

/// Starts to serve on `address`; port 0 takes a free one.
///
/// # Errors
/// [`ServeError::Bind`] or [`ServeError::Start`], before anything is served.
pub fn serve(address: SocketAddr, metrics: Metrics, health: Health) -> Result<Server, ServeError> {
    let bind = |source| ServeError::Bind { address, source };
    let listener = TcpListener::bind(address).map_err(bind)?;
    listener.set_nonblocking(true).map_err(bind)?;
    let bound = listener.local_addr().map_err(bind)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(ServeError::Start)?;
    let (stop, stopped) = oneshot::channel();
    let answers = Arc::new(Answers { metrics, health });
    let thread = std::thread::Builder::new()
        .name("metrics".to_owned())
        .spawn(move || runtime.block_on(run(listener, answers, stopped)))
        .map_err(ServeError::Start)?;
    Ok(Server { address: bound, stop: Some(stop), thread: Some(thread) })
}

async fn run(listener: TcpListener, answers: Arc<Answers>, stopped: oneshot::Receiver<()>) {
    let listener = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(%error, "metrics are not served");
            return;
        }
    };
    let routes = Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(health))
        .with_state(answers);
    let (told, asked) = oneshot::channel::<()>();
    let serving = axum::serve(listener, routes).with_graceful_shutdown(async move {
        // A sender that was dropped means the same as a message: stop.
        let _ = stopped.await;
        drop(told);
    });
    let serving = std::pin::pin!(async { serving.await });
    let deadline = std::pin::pin!(async {
        let _ = asked.await;
        tokio::time::sleep(STOP_WAIT).await;
    });
    first_of(serving, deadline).await;
}

/// Ends when either future ends.
async fn first_of<A: Future, B: Future>(
    mut left: std::pin::Pin<&mut A>,
    mut right: std::pin::Pin<&mut B>,
) {
    std::future::poll_fn(|context| {
        if left.as_mut().poll(context).is_ready() || right.as_mut().poll(context).is_ready() {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    })
    .await;
}

async fn metrics(State(answers): State<Arc<Answers>>) -> Response {
    match answers.metrics.render() {
        Ok(text) => ([(header::CONTENT_TYPE, Metrics::CONTENT_TYPE)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

async fn health(State(answers): State<Arc<Answers>>) -> Response {
    match (answers.health)() {
        Ok(()) => "ok\n".into_response(),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")).into_response(),
    }
}

impl Server {
    /// Where it listens, with the port that was taken.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Lets open answers end, for at most [`STOP_WAIT`], and joins the thread.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            if thread.join().is_err() {
                tracing::error!("the metrics thread panicked");
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
    }
}
