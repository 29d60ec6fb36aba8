//! Sockets that say nothing, of which there are only so many.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio_util::sync::CancellationToken;

/// The sockets without a request under way, those that have been silent for longest first. Those that
/// became WebSockets are the transport's.
#[derive(Debug)]
pub(super) struct SilentSockets {
    max: usize,
    sockets: Mutex<Order>,
}

#[derive(Debug, Default)]
struct Order {
    last: u64,
    by_number: BTreeMap<u64, CancellationToken>,
}

/// One socket, for as long as the HTTP server has it.
#[derive(Debug)]
pub(super) struct Socket {
    sockets: Arc<SilentSockets>,
    /// Its place while it is silent.
    place: Mutex<Option<u64>>,
    end: CancellationToken,
}

impl SilentSockets {
    /// At most so many are silent at a time.
    pub(super) fn new(max: usize) -> Arc<Self> {
        Arc::new(Self { max, sockets: Mutex::default() })
    }

    /// A socket that was accepted and has said nothing yet.
    pub(super) fn accept(self: &Arc<Self>) -> Socket {
        let socket = Socket {
            sockets: Arc::clone(self),
            place: Mutex::default(),
            end: CancellationToken::new(),
        };
        socket.falls_silent();
        socket
    }

    fn order(&self) -> MutexGuard<'_, Order> {
        // Each use leaves it whole.
        self.sockets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Socket {
    /// It waits for a request. One more than there may be ends the one that has waited for longest.
    pub(super) fn falls_silent(&self) {
        let mut order = self.sockets.order();
        order.last += 1;
        let number = order.last;
        order.by_number.insert(number, self.end.clone());
        let surplus = (order.by_number.len() > self.sockets.max)
            .then(|| order.by_number.pop_first())
            .flatten();
        drop(order);
        *self.place() = Some(number);
        if let Some((_, longest)) = surplus {
            longest.cancel();
        }
    }

    /// A request has come.
    pub(super) fn speaks(&self) {
        if let Some(number) = self.place().take() {
            self.sockets.order().by_number.remove(&number);
        }
    }

    /// Returns when it had to give way to others.
    pub(super) async fn gives_way(&self) {
        self.end.cancelled().await;
    }

    fn place(&self) -> MutexGuard<'_, Option<u64>> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.speaks();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_silence_gives_way() {
        let sockets = SilentSockets::new(2);
        let [first, second] = [sockets.accept(), sockets.accept()];
        first.speaks();
        let third = sockets.accept();
        let ended = |sockets: [&Socket; 3]| sockets.map(|socket| socket.end.is_cancelled());
        assert_eq!(ended([&first, &second, &third]), [false, false, false]);
        // The second has been silent for longest.
        first.falls_silent();
        assert_eq!(ended([&first, &second, &third]), [false, true, false]);
        drop(third);
        let fourth = sockets.accept();
        assert_eq!(ended([&first, &second, &fourth]), [false, true, false]);
        drop((first, second, fourth));
        assert!(sockets.order().by_number.is_empty());
    }
}
