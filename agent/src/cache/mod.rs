//! The caches' keeper: each instance's own part of Varnish or nginx, checked by the program before it is used.

mod nginx;
mod varnish;
mod vcl;

use std::sync::Arc;

use magrathea_core::manifest::ProxyKind;
use magrathea_core::plan::CacheSpec;

use crate::engine::Engine;
use crate::fail::{Outcome, internal};
use crate::folders::{self, Folders};

/// Speaks to the caches. One change at a time: a main VCL is made out of all instances' labels.
#[derive(Debug, Clone)]
pub struct Caches {
    engine: Engine,
    folders: Folders,
    turn: Arc<tokio::sync::Mutex<()>>,
}

impl Caches {
    pub fn new(engine: Engine, folders: Folders) -> Self {
        Caches { engine, folders, turn: Arc::default() }
    }

    /// Brings an instance's part about. Says whether it changed.
    pub async fn ensure(&self, spec: &CacheSpec) -> Outcome<bool> {
        let _turn = self.turn.lock().await;
        let held: Option<CacheSpec> = folders::load(&self.file(&spec.slug))?;
        let changed = match spec.proxy {
            ProxyKind::Varnish => varnish::ensure(self, spec).await?,
            ProxyKind::Nginx => nginx::ensure(self, spec).await?,
            ProxyKind::None => return Err(internal("a cache without a program")),
        };
        folders::store(&self.file(&spec.slug), spec)?;
        if let Some(held) = held.filter(|held| held.proxy != spec.proxy) {
            self.take_away(&held).await?;
        }
        Ok(changed)
    }

    /// Takes an instance's part away. Says whether it was there.
    pub async fn remove(&self, slug: &str) -> Outcome<bool> {
        let _turn = self.turn.lock().await;
        let Some(held) = folders::load::<CacheSpec>(&self.file(slug))? else { return Ok(false) };
        folders::remove_file(&self.file(slug))?;
        self.take_away(&held).await?;
        Ok(true)
    }

    async fn take_away(&self, held: &CacheSpec) -> Outcome<()> {
        match held.proxy {
            ProxyKind::Varnish => varnish::sync(self).await.map(|_| ()),
            ProxyKind::Nginx => nginx::remove(self, &held.slug).await,
            ProxyKind::None => Ok(()),
        }
    }

    /// After a start of the cache or the agent: what should be loaded is loaded.
    pub async fn resync(&self) -> Outcome<()> {
        let _turn = self.turn.lock().await;
        if self.specs(ProxyKind::Varnish).is_empty() {
            return Ok(());
        }
        varnish::sync(self).await.map(|_| ())
    }

    fn specs(&self, proxy: ProxyKind) -> Vec<CacheSpec> {
        let mut specs: Vec<CacheSpec> = folders::load_all(&self.folders.state("caches"));
        specs.retain(|spec| spec.proxy == proxy);
        specs
    }

    fn file(&self, slug: &str) -> std::path::PathBuf {
        self.folders.state("caches").join(format!("{slug}.json"))
    }
}
