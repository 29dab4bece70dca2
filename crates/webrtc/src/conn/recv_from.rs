use std::{
    future::Future,
    mem,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::task::coop::poll_proceed;

use super::{CustomConn, Received};

/// The future of [`Conn::recv_from`](webrtc_util::Conn::recv_from). One is made for each datagram, and while they come
/// in a row there is nothing to wait for: what that takes is put together only where it is needed.
pub(super) struct RecvFrom<'a> {
    conn: &'a CustomConn,
    buffer: &'a mut [u8],
    waiting: Option<Waiting<'a>>,
}

type Output = webrtc_util::Result<(usize, SocketAddr)>;
pub(super) type Waiting<'a> = Pin<Box<dyn Future<Output = Output> + Send + 'a>>;

impl<'a> RecvFrom<'a> {
    #[inline]
    pub(super) fn new(conn: &'a CustomConn, buffer: &'a mut [u8]) -> Self {
        Self {
            conn,
            buffer,
            waiting: None,
        }
    }
}

impl Future for RecvFrom<'_> {
    type Output = Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Output> {
        let Self {
            conn,
            buffer,
            waiting,
        } = &mut *self;
        while waiting.is_none() {
            // As with the sockets of tokio, who reads in a loop gives way to others now and then.
            let progress = ready!(poll_proceed(cx));
            match conn.receive_now(buffer) {
                Received::Datagram(length, source) => {
                    progress.made_progress();
                    return Poll::Ready(Ok((length, source)));
                }
                Received::Refused => progress.made_progress(),
                Received::Nothing => *waiting = Some(conn.wait_and_receive(mem::take(buffer))),
            }
        }
        match waiting {
            Some(waiting) => waiting.as_mut().poll(cx),
            None => Poll::Pending,
        }
    }
}
