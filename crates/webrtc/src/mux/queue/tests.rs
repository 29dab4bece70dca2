use std::{future::poll_fn, task::Wake};

use super::{
    storage::{OVERHEAD, SPARE},
    *,
};

/// As [`Pop`] does.
async fn pop(queue: &Queue, buffer: &mut [u8]) -> Option<(Popped, SocketAddr)> {
    let (mut pop, mut from) = (queue.pop(buffer), UNSPECIFIED);
    let popped = poll_fn(|cx| pop.poll(cx, &mut from)).await?;
    Some((popped, from))
}

fn source(port: u16) -> SocketAddr {
    ([192, 0, 2, 1], port).into()
}

/// In order, unharmed, also where the ring wraps, and within its bound.
#[tokio::test]
async fn what_goes_in_comes_out() {
    let queue = Queue::new(Queues::new(10_000));
    let mut buffer = [0; 2048];
    let datagram = |n: usize| vec![u8::try_from(n % 251).expect("small"); n * 37 % 1500];
    let (mut pushed, mut popped) = (0, 0);
    while popped < 3000 {
        while queue.push(&datagram(pushed), source(1), false).is_ok() {
            pushed += 1;
        }
        assert!(pushed > popped, "nothing fits");
        while popped < pushed - pushed % 2 {
            let expected = datagram(popped);
            let got = pop(&queue, &mut buffer).await;
            assert_eq!(got, Some((Popped::Datagram(expected.len()), source(1))));
            assert_eq!(buffer[..expected.len()], expected);
            popped += 1;
        }
    }
    let ring = queue.lock();
    let storage = ring.storage.as_deref().expect("some wait");
    assert!(storage.bytes.capacity() <= 2 * 10_000);
    assert!(storage.heads.capacity() <= 2 * 10_000 / OVERHEAD);
}

#[tokio::test]
async fn empty_datagrams_are_bounded_too() {
    let queue = Queue::new(Queues::new(6400));
    let taken = (0..1000)
        .filter(|_| queue.push(&[], source(1), false).is_ok())
        .count();
    assert_eq!(taken, 100);
}

#[tokio::test]
async fn those_nobody_vouches_for_leave_room() {
    let queue = Queue::new(Queues::new(1 << 20));
    for _ in 0..UNPROVED {
        assert_eq!(queue.push(b"x", source(1), true), Ok(()));
    }
    let refused = queue.push(b"x", source(1), true);
    assert_eq!(refused, Err(Refusal::TooManyUnproved));
    assert_eq!(queue.push(b"y", source(2), false), Ok(()));
    pop(&queue, &mut [0; 9]).await;
    assert_eq!(queue.push(b"x", source(1), true), Ok(()));
}

#[tokio::test]
async fn a_small_buffer_is_told() {
    let queue = Queue::new(Queues::new(1000));
    queue.push(b"four", source(7), false).expect("room");
    queue.push(b"next", source(8), false).expect("room");
    let got = pop(&queue, &mut [0; 3]).await;
    assert_eq!(got, Some((Popped::Truncated, source(7))));
    let mut buffer = [0; 4];
    let got = pop(&queue, &mut buffer).await;
    assert_eq!(got, Some((Popped::Datagram(4), source(8))));
    assert_eq!(&buffer, b"next");
}

/// Several readers, of which some give up while they wait: every datagram reaches one.
#[tokio::test]
async fn readers_that_give_up_lose_nothing() {
    let queue = Arc::new(Queue::new(Queues::new(1 << 20)));
    let readers: Vec<_> = (0..4)
        .map(|_| {
            let queue = Arc::clone(&queue);
            tokio::spawn(async move {
                let mut got = 0;
                loop {
                    let mut buffer = [0; 64];
                    tokio::select! {
                        popped = pop(&queue, &mut buffer) => match popped {
                            Some(_) => got += 1,
                            None => return got,
                        },
                        () = tokio::task::yield_now() => {}
                    }
                }
            })
        })
        .collect();
    for n in 0..10_000 {
        queue.push(b"datagram", source(1), false).expect("room");
        if n % 8 == 0 {
            tokio::task::yield_now().await;
        }
    }
    while queue.lock().storage.is_some() {
        tokio::task::yield_now().await;
    }
    queue.close();
    let mut total = 0;
    for reader in readers {
        total += reader.await.expect("no panic");
    }
    assert_eq!(total, 10_000);
    assert_eq!(queue.push(b"late", source(1), false), Err(Refusal::Closed));
}

/// How often each of two readers was woken that wait for the same queue, once `f` has had them.
fn woken<'a>(
    queue: &'a Queue,
    buffers: &'a mut [[u8; 9]; 2],
    f: impl FnOnce([Pop<'a>; 2]),
) -> [usize; 2] {
    let wakers = [(); 2].map(|()| Arc::new(CountedWaker::default()));
    let mut pops = buffers.each_mut().map(|buffer| queue.pop(buffer));
    for (pop, waker) in pops.iter_mut().zip(&wakers) {
        let waker = Waker::from(Arc::clone(waker));
        let polled = pop.poll(&mut Context::from_waker(&waker), &mut { UNSPECIFIED });
        assert_eq!(polled, Poll::Pending);
    }
    f(pops);
    wakers.map(|waker| waker.0.load(Relaxed))
}

#[derive(Default)]
struct CountedWaker(AtomicUsize);

impl Wake for CountedWaker {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Relaxed);
    }
}

#[test]
fn who_was_woken_and_goes_lets_another_have_it() {
    let queue = Queue::new(Queues::new(1000));
    let mut cx = Context::from_waker(Waker::noop());
    let from = &mut { UNSPECIFIED };
    let times = woken(&queue, &mut Default::default(), |[first, mut second]| {
        assert!(!queue.is_abandoned());
        queue.push(b"one", source(1), false).expect("room");
        drop(first);
        let polled = second.poll(&mut cx, from);
        assert_eq!(polled, Poll::Ready(Some(Popped::Datagram(3))));
    });
    assert_eq!(times, [1, 1]);
    assert!(queue.is_abandoned());

    // Nobody else is woken for what somebody has taken, or for one who was not woken.
    let times = woken(&queue, &mut Default::default(), |[first, mut second]| {
        queue.push(b"one", source(1), false).expect("room");
        queue.try_pop(&mut [0; 9]).expect("open");
        drop(first);
        queue.push(b"two", source(1), false).expect("room");
        let polled = second.poll(&mut cx, from);
        assert_eq!(polled, Poll::Ready(Some(Popped::Datagram(3))));
    });
    assert_eq!(times, [1, 1]);
    let times = woken(&queue, &mut Default::default(), |[first, second]| {
        drop(first);
        queue.push(b"one", source(1), false).expect("room");
        drop(second);
    });
    assert_eq!(times, [0, 1]);
    queue.try_pop(&mut [0; 9]).expect("open");
}

#[test]
fn each_datagram_wakes_another_and_the_end_all() {
    let queue = Queue::new(Queues::new(1000));
    let times = woken(&queue, &mut Default::default(), |pops| {
        for _ in 0..3 {
            queue.push(b"one", source(1), false).expect("room");
        }
        drop(pops);
    });
    assert_eq!(times, [1, 1]);
    while queue.try_pop(&mut [0; 9]).expect("open").is_some() {}
    let times = woken(&queue, &mut Default::default(), |mut pops| {
        queue.close();
        for pop in &mut pops {
            let polled = pop.poll(&mut Context::from_waker(Waker::noop()), &mut {
                UNSPECIFIED
            });
            assert_eq!(polled, Poll::Ready(None));
        }
    });
    assert_eq!(times, [1, 1]);
}

/// As in a `select` that moves to another task.
#[test]
fn who_waits_is_woken_where_it_was_polled_last() {
    let queue = Queue::new(Queues::new(1000));
    let last = Arc::new(CountedWaker::default());
    let times = woken(&queue, &mut Default::default(), |[mut first, _second]| {
        let waker = Waker::from(Arc::clone(&last));
        let polled = first.poll(&mut Context::from_waker(&waker), &mut { UNSPECIFIED });
        assert_eq!(polled, Poll::Pending);
        queue.push(b"one", source(1), false).expect("room");
        let polled = first.poll(&mut Context::from_waker(&waker), &mut { UNSPECIFIED });
        assert_eq!(polled, Poll::Ready(Some(Popped::Datagram(3))));
    });
    assert_eq!((times, last.0.load(Relaxed)), ([0, 0], 1));
}

/// Those who wait for nothing have none, and what one gives back another takes.
#[test]
fn storage_goes_round() {
    let queues = Queues::new(1 << 21);
    let [one, other] = [(); 2].map(|()| Queue::new(Arc::clone(&queues)));
    let size = |queue: &Queue| queue.lock().storage.as_ref().map_or(0, |s| s.size());
    for queue in [&one, &other] {
        queue.push(&[7; 1200], source(1), false).expect("room");
        assert!(size(queue) >= 1200 && queues.spare().storages.is_empty());
        queue.try_pop(&mut [0; 1500]).expect("open");
        assert_eq!((size(queue), queues.spare().storages.len()), (0, 1));
    }
    // No more than a bound is kept.
    for _ in 0..=SPARE / 1200 {
        one.push(&[7; 1200], source(1), false).expect("room");
    }
    while one.try_pop(&mut [0; 1500]).expect("open").is_some() {}
    assert_eq!(size(&one), 0);
    let spare = queues.spare();
    let kept: usize = spare.storages.iter().map(|storage| storage.size()).sum();
    assert!(kept == spare.size && kept <= SPARE);
}

#[test]
fn in_the_steady_state_nothing_is_allocated() {
    let queue = Queue::new(Queues::new(1 << 16));
    let round = || {
        for _ in 0..20 {
            queue.push(&[7; 1200], source(1), false).expect("room");
        }
        for _ in 0..20 {
            assert!(matches!(queue.try_pop(&mut [0; 1500]), Ok(Some(_))));
        }
    };
    round();
    let allocations = allocation_counter::measure(round);
    assert_eq!(allocations.count_total, 0);
}
