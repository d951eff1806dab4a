//! Connections: how many at a time, which one goes when there are too many, and clients that take nothing of their answers.

use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes, HttpBody};
use axum::http::Request;
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};
use tokio::time::{Sleep, sleep};
use tower::ServiceExt;

use super::limits::Limits;

/// Pause after a connection that could not be accepted: most often, files have run out.
const PAUSE: Duration = Duration::from_millis(20);
/// Age from which a connection that has not asked yet is closed before others.
const IDLE: Duration = Duration::from_secs(1);
/// Headers of a request.
const MOST_HEADERS: usize = 100;

/// A connection.
struct Connection {
    since: Instant,
    /// Requests that are being answered.
    busy: AtomicUsize,
    close: Notify,
}

/// The connections that are open, the oldest first.
#[derive(Default)]
struct Connections(Mutex<Vec<Arc<Connection>>>);

impl Connections {
    fn list(&self) -> MutexGuard<'_, Vec<Arc<Connection>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn admit(&self, most: usize) -> Arc<Connection> {
        let new = Arc::new(Connection { since: Instant::now(), busy: AtomicUsize::new(0), close: Notify::new() });
        if self.list().len() >= most.max(1) {
            self.close_one();
        }
        self.list().push(new.clone());
        new
    }

    /// Closes the oldest connection that is idle, else the oldest.
    fn close_one(&self) {
        let mut list = self.list();
        let is_idle = |c: &Arc<Connection>| c.busy.load(Ordering::Relaxed) == 0 && c.since.elapsed() > IDLE;
        let victim = list.iter().position(is_idle).unwrap_or(0);
        if victim < list.len() {
            list.remove(victim).close.notify_one();
        }
    }

    fn remove(&self, connection: &Arc<Connection>) {
        self.list().retain(|other| !Arc::ptr_eq(other, connection));
    }
}

/// Accepts connections until `ending` says so, and returns when the last one has ended.
pub async fn serve(listener: TcpListener, router: Router, limits: Limits, mut ending: watch::Receiver<bool>) {
    let open = Arc::new(Connections::default());
    let (alive, mut ended) = tokio::sync::mpsc::channel::<()>(1);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = ending.wait_for(|ending| *ending) => break,
        };
        let Ok((stream, _)) = accepted else {
            open.close_one();
            sleep(PAUSE).await;
            continue;
        };
        let connection = open.admit(limits.connections);
        let (open, router, ending, alive) = (open.clone(), router.clone(), ending.clone(), alive.clone());
        tokio::spawn(async move {
            converse(stream, &connection, router, limits, ending).await;
            open.remove(&connection);
            drop(alive);
        });
    }
    drop((listener, alive));
    // Every connection holds a sender.
    let _ = ended.recv().await;
}

async fn converse(
    stream: TcpStream,
    connection: &Arc<Connection>,
    router: Router,
    limits: Limits,
    mut ending: watch::Receiver<bool>,
) {
    let _ = stream.set_nodelay(true);
    let own = connection.clone();
    let service = service_fn(move |request: Request<Incoming>| {
        let guest = Guest::new(&own);
        let answer = router.clone().oneshot(request.map(Body::new));
        async move { answer.await.map(|response| response.map(|body| Body::new(Held { body, _guest: guest }))) }
    });
    let io = TokioIo::new(Stalling { stream, limit: limits.stall, timer: None });
    let conversation = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head)
        .max_buf_size(limits.head_bytes)
        .max_headers(MOST_HEADERS)
        .serve_connection(io, service);
    let mut conversation = pin!(conversation);
    let mut told = false;
    loop {
        tokio::select! {
            // A client that breaks off is nobody else's fault.
            _ = conversation.as_mut() => return,
            () = connection.close.notified() => return,
            _ = ending.wait_for(|ending| *ending), if !told => {
                told = true;
                conversation.as_mut().graceful_shutdown();
            }
            // Whoever has not asked by then is not waited for.
            () = sleep(IDLE), if told && connection.busy.load(Ordering::Relaxed) == 0 => return,
        }
    }
}

/// A request under way, until the last byte of its answer.
struct Guest(Arc<Connection>);

impl Guest {
    fn new(connection: &Arc<Connection>) -> Self {
        connection.busy.fetch_add(1, Ordering::Relaxed);
        Guest(connection.clone())
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.0.busy.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The body of an answer, which ends its request.
struct Held {
    body: Body,
    _guest: Guest,
}

impl HttpBody for Held {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A stream that fails once nothing of what is written has been taken for a while.
struct Stalling {
    stream: TcpStream,
    limit: Duration,
    /// Runs while a write waits.
    timer: Option<Pin<Box<Sleep>>>,
}

impl Stalling {
    fn watched<T>(&mut self, context: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.timer = None;
            return written;
        }
        let limit = self.limit;
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(limit)));
        ready!(timer.as_mut().poll(context));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Stalling {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, into)
    }
}

impl AsyncWrite for Stalling {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.watched(context, written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, bytes);
        self.watched(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
