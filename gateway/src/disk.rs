//! The disk that the gateway keeps its data on. Some of it is left for what must go on when it is full: the database, and deploys
//! that are under way.

use crate::api::error::{ApiError, Code};
use crate::state::State;

/// The bytes that there is room for beside what is left free; an error when there is none, for somebody who wants something `done`,
/// as in "pushed".
pub fn find_room(state: &State, done: &str) -> Result<u64, ApiError> {
    let disk = rustix::fs::statvfs(&state.data).map_err(ApiError::internal)?;
    let room = (disk.f_bavail * disk.f_frsize).saturating_sub(state.git.limits.free);
    if room == 0 {
        tracing::error!("the data folder's disk is nearly full: nothing can be {done}");
        return Err(ApiError::new(Code::DiskFull, format!("the gateway's disk is nearly full: nothing can be {done}"))
            .with_hint("tell whoever runs the gateway; what serves goes on, and rollbacks work"));
    }
    Ok(room)
}
