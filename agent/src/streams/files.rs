//! Files of an instance at a stream's end: the real programs (sftp-server, scp, rsync) in a container that has the
//! instance's writable paths and nothing else. A symbolic link leads nowhere there, whatever it says.

use std::time::Duration;

use magrathea_core::plan::{Limits, MountSource};
use magrathea_core::units::ByteSize;
use magrathea_core::wire::FilesSpec;

use super::StreamIo;
use super::exec::run_in;
use crate::engine::{OneOff, Program};
use crate::fail::{Outcome, internal};
use crate::node::NodeAgent;

pub const KIND: &str = "files";

/// Ends a container that an agent which was killed left: nobody keeps a file transfer open for longer.
const MOST: Duration = Duration::from_secs(24 * 3600);

/// Runs the program to its end or the stream's. Its container is gone when this returns.
pub async fn run(agent: &NodeAgent, spec: &FilesSpec, io: StreamIo) -> Outcome<i32> {
    let engine = &agent.engine;
    let mut binds = Vec::new();
    for mount in &spec.mounts {
        let MountSource::Storage { slug, base, mount: name } = &mount.source else {
            return Err(internal("only an instance's own storage is shown"));
        };
        if *slug != spec.slug {
            return Err(internal("only one instance's storage is shown"));
        }
        let folder = agent.folders.storage(slug, base.as_deref()).join(name);
        binds.push((folder, mount.target.clone(), mount.read_only));
    }
    let one_off = OneOff {
        kind: KIND,
        key: Some(spec.slug.clone()),
        image: spec.image.clone(),
        command: ["sleep".to_owned(), MOST.as_secs().to_string()].to_vec(),
        user: Some(spec.user.clone()),
        binds,
        tmpfs: vec![("/tmp".into(), ByteSize::mib(16).bytes()), ("/run".into(), ByteSize::mib(1).bytes())],
        limits: Limits { memory: Some(ByteSize::mib(256)), millicpus: None, pids: Some(64) },
        ..OneOff::default()
    };
    let container = engine.start_one_off(&one_off).await?;
    let program = Program { command: &spec.command, tty: None, env: &Default::default() };
    let outcome = run_in(agent, &container, &program, io).await;
    engine.remove_container(&container).await?;
    outcome
}
