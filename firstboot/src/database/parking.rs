//! The one connection that a run keeps between its phases. A login costs the
//! server more than all that a node asks of it, and a fleet logs in at once.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use super::session::Session;

/// Room for one idle session; clones share it.
#[derive(Clone, Default)]
pub(super) struct Parking(Arc<Mutex<Option<Session>>>);

impl Parking {
    /// The idle session, if it still answers.
    pub(super) async fn take(&self) -> Option<Session> {
        let mut session = self.place().take()?;
        if session.answers().await {
            session.home = Some(self.clone());
            return Some(session);
        }
        session.close().await;
        None
    }

    /// Keeps a session. One that was there before is dropped, and with it its
    /// connection.
    pub(super) fn keep(&self, session: Session) {
        *self.place() = Some(session);
    }

    /// Ends the idle session.
    pub(super) async fn clear(&self) {
        let idle = self.place().take();
        if let Some(session) = idle {
            session.close().await;
        }
    }

    fn place(&self) -> std::sync::MutexGuard<'_, Option<Session>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Parking {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Parking")
    }
}
