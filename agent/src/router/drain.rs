//! Waiting until a lane has no request in flight.

use std::time::Duration;

use magrathea_core::wire::Drained;

use super::control::Control;
use crate::fail::Outcome;

const POLL: Duration = Duration::from_millis(20);

/// Waits at most so long; what is in flight then is cut.
pub async fn wait_idle(control: &Control, backend: &str, timeout: Duration) -> Outcome<Drained> {
    let give_up = tokio::time::Instant::now() + timeout;
    loop {
        let cut = control.requests_in_flight(backend).await?;
        if cut == 0 {
            return Ok(Drained { cut });
        }
        if tokio::time::Instant::now() >= give_up {
            control.cut(backend).await?;
            return Ok(Drained { cut });
        }
        tokio::time::sleep(POLL).await;
    }
}
