//! How what is gathered goes out.

use std::{
    io,
    ops::Range,
    os::fd::AsFd,
    sync::{Arc, MutexGuard, PoisonError, TryLockError, atomic::Ordering::Relaxed},
};

use socket2::Socket as Descriptor;
use tokio::task::consume_budget;

use super::{
    super::{
        batching::{Admission, Apart, Batcher, Out, Run},
        control::{SourceControl, encode_segment},
        refused::is_refusal,
        sys::{MESSAGES, Name, Outbound, send_messages},
    },
    Socket,
    send::Carrier,
};
use crate::{BatchCounters, DfMode, batching::OnDropped, transmit::Datagram};

/// What goes before the contents of a message.
struct Head {
    control: SourceControl,
    destination: Name,
    pieces: Range<usize>,
}

/// How far it has come.
enum Progress {
    /// Nothing waits.
    Idle,
    /// Something may wait.
    More,
    /// There is no room in the send buffer of this one.
    Blocked(Carrier),
}

impl Carrier {
    /// A place in the order of descriptors.
    pub(in super::super) fn number(self) -> i32 {
        match self {
            Self::Main => -1,
            Self::Twin(mode) | Self::Locked(mode) => mode.raw(),
        }
    }

    /// Who sends a run in its place: `WANT` clears the DF bit where all of a run is larger than the MTU, though each
    /// datagram is not. `DO` keeps it, and refuses exactly those that `WANT` would have cut.
    pub(in super::super) fn keeping_df(self, default: DfMode) -> Self {
        match self {
            Self::Main if default == DfMode::Want => Self::Twin(DfMode::Do),
            Self::Twin(DfMode::Want) => Self::Twin(DfMode::Do),
            Self::Locked(DfMode::Want) => Self::Locked(DfMode::Do),
            other => other,
        }
    }
}

impl Socket {
    pub(crate) async fn send(&self, datagram: &Datagram<'_>) -> io::Result<usize> {
        // Others on this thread have their turn now and then, and what is gathered goes out.
        consume_budget().await;
        match self.try_send(datagram) {
            // It is rare, and needs more memory than all the rest of a send.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                Box::pin(self.send_once_there_is_room(datagram)).await
            }
            result => result,
        }
    }

    async fn send_once_there_is_room(&self, datagram: &Datagram<'_>) -> io::Result<usize> {
        let Some(batcher) = self.batcher.as_ref().filter(|_| !is_special(datagram)) else {
            return self.send_alone(datagram).await;
        };
        loop {
            // Before the look, so that room which comes between the look and the wait wakes.
            let room = batcher.room.notified();
            match self.try_send_gathered(batcher, datagram) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => room.await,
                result => return result,
            }
        }
    }

    #[inline]
    pub(crate) fn try_send(&self, datagram: &Datagram<'_>) -> io::Result<usize> {
        match &self.batcher {
            None => self.try_send_alone(datagram),
            Some(batcher) if is_special(datagram) => {
                self.flush_before(batcher);
                self.try_send_alone(datagram)
            }
            Some(batcher) => self.try_send_gathered(batcher, datagram),
        }
    }

    fn try_send_gathered(&self, batcher: &Batcher, datagram: &Datagram<'_>) -> io::Result<usize> {
        match batcher.admit(datagram) {
            Admission::Queued => Ok(datagram.contents.len()),
            Admission::Full => Err(io::ErrorKind::WouldBlock.into()),
            Admission::AtOnce => {
                batcher.counts.calls.fetch_add(1, Relaxed);
                let mut result = self.try_send_alone(datagram);
                match &result {
                    Ok(_) => drop(batcher.counts.sent.fetch_add(1, Relaxed)),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        batcher.push(datagram);
                        result = Ok(datagram.contents.len());
                    }
                    Err(_) => {}
                }
                batcher.wake_later();
                result
            }
        }
    }

    /// Starts the task that sends what was gathered, where the socket gathers.
    pub(crate) fn start(this: &Arc<Self>) {
        let Some(batcher) = &this.batcher else { return };
        let (batcher, socket) = (Arc::clone(batcher), Arc::downgrade(this));
        tokio::spawn(async move {
            while batcher.something().await {
                let Some(socket) = socket.upgrade() else {
                    return;
                };
                socket.flush(&batcher).await;
            }
        });
    }

    /// Sends until nothing waits, or the socket has ended.
    async fn flush(&self, batcher: &Batcher) {
        loop {
            let progress = self.flush_some(batcher, &mut lock(batcher));
            match progress {
                _ if batcher.has_ended() => return,
                Progress::Idle => return,
                Progress::More => consume_budget().await,
                Progress::Blocked(carrier) => {
                    tokio::select! {
                        () = batcher.ended.notified() => return,
                        _ = self.writable(carrier) => {}
                    }
                }
            }
        }
    }

    /// Sends what waits as far as there is room, and drops the rest.
    pub(crate) fn end(&self) {
        let Some(batcher) = &self.batcher else { return };
        batcher.end();
        let mut out = lock(batcher);
        loop {
            match self.flush_some(batcher, &mut out) {
                Progress::Idle => break,
                Progress::More => {}
                Progress::Blocked(_) => {
                    let error = io::ErrorKind::WouldBlock.into();
                    while let Some(run) = out.next_run() {
                        let done = out.apart.as_ref().map_or(0, |apart| apart.done);
                        for number in &out.members(run)[done..] {
                            batcher.dropped(&out.datagrams.get(*number), &error);
                        }
                        out.advance(1);
                    }
                }
            }
        }
    }

    pub(crate) fn batch_counters(&self) -> Option<BatchCounters> {
        self.batcher.as_deref().map(Batcher::counters)
    }

    pub(crate) fn on_dropped(&self, f: OnDropped) -> bool {
        self.batcher
            .as_ref()
            .is_some_and(|batcher| batcher.on_dropped(f))
    }

    /// Sends what waits before something that cannot wait with it, if nobody else is at it.
    fn flush_before(&self, batcher: &Batcher) {
        let mut out = match batcher.out.try_lock() {
            Ok(out) => out,
            Err(TryLockError::Poisoned(out)) => out.into_inner(),
            Err(TryLockError::WouldBlock) => return,
        };
        self.flush_some(batcher, &mut out);
    }

    /// Sends what is planned, and then once what waits.
    fn flush_some(&self, batcher: &Batcher, out: &mut Out) -> Progress {
        if let Some(carrier) = self.send_planned(batcher, out) {
            return Progress::Blocked(carrier);
        }
        if !batcher.take(&mut out.datagrams) {
            return Progress::Idle;
        }
        let runs = !batcher.no_runs.load(Relaxed);
        out.plan(runs, self.df_mode(), |datagrams, number| {
            let datagram = datagrams.get(number);
            match self.carrier(&datagram) {
                Ok(carrier) => Some(carrier),
                Err(error) => {
                    batcher.dropped(&datagram, &error);
                    None
                }
            }
        });
        match self.send_planned(batcher, out) {
            Some(carrier) => Progress::Blocked(carrier),
            None => Progress::More,
        }
    }

    /// Sends what is planned; whose send buffer is full, if one is.
    fn send_planned(&self, batcher: &Batcher, out: &mut Out) -> Option<Carrier> {
        while let Some(run) = out.next_run() {
            if out.apart.is_some() {
                let alone = run.alone;
                if self.send_apart(batcher, out).is_err() {
                    return Some(alone);
                }
                continue;
            }
            let carrier = run.carrier;
            let sent =
                self.with_descriptor_of(carrier, |socket| self.send_runs(batcher, out, socket));
            match sent {
                Ok(runs) => out.advance(runs),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Some(carrier),
                Err(error) => {
                    let run = run.clone();
                    if run.count() > 1 && error.raw_os_error() == Some(libc::EMSGSIZE) {
                        let number = out.members(&run)[0];
                        out.is_narrow(out.datagrams.entries[number].destination);
                    }
                    out.apart = Some(Apart {
                        done: 0,
                        suspect: run.count() > 1 && is_refusal(&error),
                    });
                }
            }
        }
        None
    }

    /// One system call for as many runs as it can take; how many went out.
    fn send_runs(&self, batcher: &Batcher, out: &Out, socket: &Descriptor) -> io::Result<usize> {
        let mut runs: Vec<&Run> = Vec::with_capacity(MESSAGES);
        runs.extend(out.next_runs(MESSAGES));
        let mut parts = Vec::with_capacity(runs.len());
        let mut heads: Vec<Head> = Vec::with_capacity(runs.len());
        for run in &runs {
            let members = out.members(run);
            let first = out.datagrams.get(members[0]);
            let begin = parts.len();
            out.datagrams.pieces(members, &mut parts);
            heads.push(Head {
                control: SourceControl::new(),
                destination: self.name(first.destination),
                pieces: begin..parts.len(),
            });
            if let Some(Head { control, .. }) = heads.last_mut() {
                let context = self.context(socket, first.destination);
                context.encode_options(first.options, control);
                if !context.needs_options_only(&first) {
                    context.encode_source(&first, control);
                }
                if let (true, Ok(segment)) = (run.count() > 1, u16::try_from(run.segment)) {
                    encode_segment(segment, control);
                }
            }
        }
        let messages = heads.iter().map(|head| Outbound {
            parts: &parts[head.pieces.clone()],
            destination: &head.destination,
            control: head.control.as_bytes(),
        });
        batcher.counts.calls.fetch_add(1, Relaxed);
        let sent = send_messages(socket.as_fd(), messages)?;
        let (mut datagrams, mut in_runs) = (0, 0);
        for run in &runs[..sent] {
            datagrams += run.count() as u64;
            if run.count() > 1 {
                in_runs += run.count() as u64;
            }
        }
        batcher.counts.sent.fetch_add(datagrams, Relaxed);
        batcher.counts.in_runs.fetch_add(in_runs, Relaxed);
        Ok(sent)
    }

    /// Sends the next run one by one: each datagram past the errors of others, and without what the kernel refuses.
    ///
    /// # Errors
    /// When there is no room.
    fn send_apart(&self, batcher: &Batcher, out: &mut Out) -> io::Result<()> {
        let (Some(mut apart), Some(run)) = (out.apart.take(), out.next_run()) else {
            return Ok(());
        };
        let refused = self.refused.bits();
        for number in &out.members(run)[apart.done..] {
            let datagram = out.datagrams.get(*number);
            batcher.counts.calls.fetch_add(1, Relaxed);
            match self.send_by(run.alone, &datagram) {
                Ok(_) => drop(batcher.counts.sent.fetch_add(1, Relaxed)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    out.apart = Some(apart);
                    return Err(error);
                }
                Err(error) => {
                    apart.suspect = false;
                    batcher.dropped(&datagram, &error);
                }
            }
            apart.done += 1;
        }
        // All of them could go, and with the same control messages.
        if apart.suspect && refused == self.refused.bits() && !batcher.no_runs.swap(true, Relaxed) {
            tracing::warn!(local = %self.local, "runs of datagrams are refused: they go out one by one from now on");
        }
        out.advance(1);
        Ok(())
    }
}

/// Whether it must not wait: a probe is sent to be timed, and IPv4 options are rare.
fn is_special(datagram: &Datagram<'_>) -> bool {
    datagram.probe.is_some() || datagram.ip_options.is_some()
}

fn lock(batcher: &Batcher) -> MutexGuard<'_, Out> {
    batcher.out.lock().unwrap_or_else(PoisonError::into_inner)
}
