//! Waiting between attempts: doubling, with jitter, so that fifty nodes that
//! lost the same race do not meet again at the same moment.

use std::time::{Duration, Instant};

/// The pauses between the attempts at one thing.
#[derive(Debug)]
pub struct Backoff {
    next: Duration,
    ceiling: Duration,
    deadline: Instant,
}

impl Backoff {
    /// Starts at `first` and doubles up to `ceiling`, until `deadline`.
    pub fn new(first: Duration, ceiling: Duration, deadline: Instant) -> Self {
        Self {
            next: first,
            ceiling,
            deadline,
        }
    }

    /// For statements that lost a race: 20 ms to 1 s.
    pub fn for_statements(deadline: Instant) -> Self {
        Self::new(Duration::from_millis(20), Duration::from_secs(1), deadline)
    }

    /// For connections: 250 ms to 5 s.
    pub fn for_connections(deadline: Instant) -> Self {
        Self::new(Duration::from_millis(250), Duration::from_secs(5), deadline)
    }

    /// Sleeps for half to all of the next pause, never past the deadline.
    /// Returns false when the deadline has come.
    pub async fn pause(&mut self) -> bool {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return false;
        }
        let pause = jittered(self.next, random_byte()).min(left);
        self.next = (self.next * 2).min(self.ceiling);
        tokio::time::sleep(pause).await;
        true
    }
}

/// Half of `pause` and up to the other half again.
fn jittered(pause: Duration, random: u8) -> Duration {
    pause / 2 + (pause / 2) * u32::from(random) / 255
}

fn random_byte() -> u8 {
    let mut byte = [0; 1];
    // Without randomness the pauses are equal, which is slower and not wrong.
    let _ = getrandom::fill(&mut byte);
    byte[0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jitter_stays_between_half_and_all() {
        let pause = Duration::from_millis(100);
        assert_eq!(jittered(pause, 0), pause / 2);
        assert_eq!(jittered(pause, 255), pause);
        assert!(jittered(pause, 128) > pause / 2 && jittered(pause, 128) < pause);
    }

    #[test]
    fn pauses_double_and_end_at_the_deadline() {
        let until =
            |deadline| Backoff::new(Duration::from_millis(4), Duration::from_millis(8), deadline);
        let runtime = super::super::runtime().unwrap();
        runtime.block_on(async {
            let mut backoff = until(Instant::now() + Duration::from_mins(1));
            for _ in 0..2 {
                assert!(backoff.pause().await);
                assert_eq!(backoff.next, Duration::from_millis(8));
            }
            let deadline = Instant::now() + Duration::from_millis(40);
            let mut backoff = until(deadline);
            while backoff.pause().await {}
            assert!(Instant::now() >= deadline);
        });
    }
}
