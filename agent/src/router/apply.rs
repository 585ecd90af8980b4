//! Bringing the router in line with the rendered texts: files first, then the running router, by its runtime API where
//! that is enough and by a reload where it is not.

use std::collections::BTreeMap;
use std::path::PathBuf;

use magrathea_core::plan::NodeFolder;

use super::control::{Control, ServerState, Worker};
use super::render::{
    ACTIVE, CANARY, HOSTS, LIMITS, Maps, ROUTER_FOLDER, Texts, WILDCARDS, map_commands, map_path, render_map, servers,
};
use super::route::{Route, Slot};
use crate::engine::{Engine, OneOff};
use crate::fail::{Outcome, refused};
use crate::folders::{self, Folders};

/// A new entry decides before a new name leads to it; a trial ends after all are led elsewhere. Limits come last: a worker of before
/// there were any does not know their map.
const MAP_ORDER: [&str; 5] = [ACTIVE, CANARY, HOSTS, WILDCARDS, LIMITS];

/// The longest time that `haproxy -c` may take.
const CHECK_LIMIT: std::time::Duration = std::time::Duration::from_secs(30);

/// Hands on of the keeper.
#[derive(Debug, Clone)]
pub struct Applier {
    pub engine: Engine,
    pub folders: Folders,
    pub control: Control,
}

impl Applier {
    /// Brings about the texts. The error leaves the router as it was; its files are the caller's to put back.
    pub async fn apply(&self, texts: &Texts, routes: &BTreeMap<String, Route>) -> Outcome<()> {
        let folder = self.folders.node(NodeFolder::Router);
        let structural = folders::load::<String>(&self.shape_file())?.as_deref() != Some(texts.shape.as_str());
        if structural {
            folders::write_file(&folder.join("haproxy.cfg.next"), texts.config.as_bytes(), 0o600)?;
            self.write_maps(&texts.maps)?;
            self.check().await?;
            std::fs::rename(folder.join("haproxy.cfg.next"), folder.join("haproxy.cfg"))
                .map_err(|error| crate::fail::node(format!("putting the router's configuration in place: {error}")))?;
            if self.control.answers().await {
                self.reload(texts, routes).await?;
            }
            folders::store(&self.shape_file(), &texts.shape)?;
            return Ok(());
        }
        folders::write_file(&folder.join("haproxy.cfg"), texts.config.as_bytes(), 0o600)?;
        self.write_maps(&texts.maps)?;
        if self.control.answers().await && !self.adjust(texts, routes).await? {
            tracing::warn!("the router did not take the change at run time; reloading it");
            self.reload(texts, routes).await?;
        }
        Ok(())
    }

    /// Loads the files on disk, and leads what the replaced worker still answers to what serves.
    async fn reload(&self, texts: &Texts, routes: &BTreeMap<String, Route>) -> Outcome<()> {
        self.control.reload().await?.map_err(|said| refused(format!("haproxy: {said}")))?;
        self.adjust_ending(texts, routes).await;
        Ok(())
    }

    fn shape_file(&self) -> PathBuf {
        self.folders.state("router-shape.json")
    }

    /// The next structural change is loaded whatever it is: for when what the router has is not known.
    pub fn distrust(&self) -> Outcome<()> {
        folders::remove_file(&self.shape_file()).map(|_| ())
    }

    fn write_maps(&self, maps: &Maps) -> Outcome<()> {
        let folder = self.folders.node(NodeFolder::Router).join("maps");
        maps.iter().try_for_each(|(name, map)| {
            folders::write_file(&folder.join(name), render_map(map).as_bytes(), 0o600).map(|_| ())
        })
    }

    /// Has the real program read the configuration before anything moves.
    async fn check(&self) -> Outcome<()> {
        let file = format!("{ROUTER_FOLDER}/haproxy.cfg.next");
        let command = ["haproxy", "-c", "-f", &file];
        let (code, said) = match self.engine.role_container("router").await? {
            Some(container) => {
                let said = self.engine.exec(&container, &command, None).await?;
                (said.code, said.all())
            }
            None => self.check_aside(&command).await?,
        };
        let complaints: Vec<_> = said.lines().filter(|line| !line.starts_with("[NOTICE]")).collect();
        if code == 0 {
            Ok(())
        } else {
            Err(refused(format!("haproxy refuses the configuration: {}", complaints.join("\n"))))
        }
    }

    /// The check in a container of its own, while no router runs yet.
    async fn check_aside(&self, command: &[&str]) -> Outcome<(i64, String)> {
        let Some(image) = self.engine.report().await?.images.remove("router") else {
            // There is nothing to check with; the router's own start will tell.
            return Ok((0, String::new()));
        };
        let one_off = OneOff {
            kind: "check",
            image,
            command: command.iter().map(|word| (*word).to_owned()).collect(),
            user: Some("0:0".into()),
            binds: vec![(self.folders.node(NodeFolder::Router), ROUTER_FOLDER.into(), true)],
            ..OneOff::default()
        };
        let mut said = Vec::new();
        let ended = self.engine.run_one_off(&one_off, CHECK_LIMIT, |bytes| said.extend_from_slice(bytes)).await?;
        let code = match ended {
            crate::engine::Ended::Exited { code, .. } => code,
            crate::engine::Ended::TimedOut => -1,
        };
        Ok((code, String::from_utf8_lossy(&said).into_owned()))
    }

    /// Changes the running workers' servers and maps; false when afterwards the current one is not as wanted.
    async fn adjust(&self, texts: &Texts, routes: &BTreeMap<String, Route>) -> Outcome<bool> {
        let fits = self.adjust_worker(Worker::Current, texts, routes).await?;
        self.adjust_ending(texts, routes).await;
        Ok(fits)
    }

    /// A visitor who has kept a connection from before a reload is answered by the worker of that time once more: it
    /// must lead to what serves now as far as it can.
    async fn adjust_ending(&self, texts: &Texts, routes: &BTreeMap<String, Route>) {
        for worker in self.control.ending_workers().await.unwrap_or_default() {
            if let Err(error) = self.adjust_worker(worker, texts, routes).await {
                tracing::debug!(%error, %worker, "an ending worker was not changed");
            }
        }
    }

    async fn adjust_worker(&self, worker: Worker, texts: &Texts, routes: &BTreeMap<String, Route>) -> Outcome<bool> {
        // Visitors are led from servers that go to servers that came, never to a backend without any.
        let ServerCommands { raise, lower } = server_commands(&self.control.read_servers(worker, "").await?, routes);
        self.give(worker, &raise).await?;
        let mut maps_fit = true;
        for name in MAP_ORDER {
            let Some(wanted) = texts.maps.get(name) else { continue };
            let path = map_path(name);
            let commands = map_commands(name, &self.control.read_map(worker, &path).await?, wanted);
            if commands.is_empty() {
                continue;
            }
            self.give(worker, &commands).await?;
            maps_fit &= self.control.read_map(worker, &path).await? == *wanted;
        }
        self.give(worker, &lower).await?;
        if raise.is_empty() && lower.is_empty() {
            return Ok(maps_fit);
        }
        let left = server_commands(&self.control.read_servers(worker, "").await?, routes);
        Ok(maps_fit && left == ServerCommands::default())
    }

    async fn give(&self, worker: Worker, commands: &[String]) -> Outcome<()> {
        for batch in commands.chunks(64) {
            self.control.worker(worker, &batch.join(";")).await?;
        }
        Ok(())
    }
}

/// Commands that let servers in, and those that take servers out.
#[derive(Debug, Default, PartialEq, Eq)]
struct ServerCommands {
    raise: Vec<String>,
    lower: Vec<String>,
}

/// The runtime commands that put every replica in its place.
fn server_commands(held: &[ServerState], routes: &BTreeMap<String, Route>) -> ServerCommands {
    let held: BTreeMap<_, _> = held.iter().map(|s| ((s.backend.as_str(), s.name.as_str()), s)).collect();
    let mut commands = ServerCommands::default();
    for route in routes.values() {
        for slot in Slot::BOTH {
            let backend = slot.backend(&route.slug);
            for (name, wanted) in servers(route, slot) {
                let state = held.get(&(backend.as_str(), name.as_str()));
                let out = state.is_none_or(|state| state.out);
                match wanted {
                    Some(server) => {
                        if state.and_then(|state| state.address) != Some(server.address) {
                            let (ip, port) = (server.address.ip(), server.address.port());
                            commands.raise.push(format!("set server {backend}/{name} addr {ip} port {port}"));
                        }
                        if out {
                            commands.raise.push(format!("set server {backend}/{name} state ready"));
                        }
                    }
                    None if !out => commands.lower.push(format!("set server {backend}/{name} state maint")),
                    None => {}
                }
            }
        }
    }
    commands
}
