use std::{
    future::Future,
    mem,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::task::coop::poll_proceed;

/// Waits for room in a socket, and sends then.
pub(crate) type Waiting<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// Who sends datagrams.
pub(crate) trait Transmits {
    /// Sends a datagram with the options that the policy has for it, and counts it. What has to wait for room
    /// is returned: it is rare, and takes more memory than all the rest of a send.
    fn transmit<'a>(&'a self, contents: &'a [u8], target: &SocketAddr) -> Option<Waiting<'a>>;
}

/// The future of [`Conn::send_to`](webrtc_util::Conn::send_to). One is made for each datagram, so it is
/// written out: what the compiler makes of an `async` block is larger, and takes more steps.
pub(crate) struct SendTo<'a, T> {
    conn: &'a T,
    contents: &'a [u8],
    target: SocketAddr,
    waiting: Option<Waiting<'a>>,
}

impl<'a, T: Transmits> SendTo<'a, T> {
    #[inline]
    pub(crate) fn new(conn: &'a T, contents: &'a [u8], target: SocketAddr) -> Self {
        Self {
            conn,
            contents,
            target,
            waiting: None,
        }
    }
}

impl<T: Transmits> Future for SendTo<'_, T> {
    type Output = webrtc_util::Result<usize>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Self {
            conn,
            contents,
            target,
            waiting,
        } = &mut *self;
        if waiting.is_none() {
            // As with the sockets of tokio, who sends in a loop gives way to others now and then. What would give back
            // this turn if there was no progress is not asked for its word: there always is.
            mem::forget(ready!(poll_proceed(cx)));
            match conn.transmit(contents, target) {
                None => return Poll::Ready(Ok(contents.len())),
                Some(room) => *waiting = Some(room),
            }
        }
        if let Some(waiting) = waiting {
            ready!(waiting.as_mut().poll(cx));
        }
        Poll::Ready(Ok(contents.len()))
    }
}
