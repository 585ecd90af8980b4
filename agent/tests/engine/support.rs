//! An agent of its own per test, under a prefix of its own, cleaned up afterwards.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use magrathea_agent::config::EngineOptions;
use magrathea_agent::streams::Streams;
use magrathea_agent::{Blobs, Call, NodeAgent, Reporter, clean, perform};
use magrathea_core::names::Layer;
use magrathea_core::plan::*;
use magrathea_core::units::{ByteSize, Span};
use magrathea_core::wire::*;
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

pub const SLUG: &str = "i0123456789ab";

pub struct Node {
    pub agent: Arc<NodeAgent>,
    pub images: BTreeMap<String, String>,
    pub options: EngineOptions,
    pub progress: tokio::sync::Mutex<mpsc::Receiver<Progress>>,
    pub call: Call,
    data: tempfile::TempDir,
}

impl Node {
    /// None, with a word on why, when this machine cannot carry the test.
    pub async fn start(prefix: &str, needed: &[&str]) -> Option<Self> {
        let data = tempfile::tempdir().unwrap();
        let options = EngineOptions {
            data: data.path().join("agent"),
            prefix: prefix.parse().unwrap(),
            docker: "unix:///var/run/docker.sock".into(),
            disk_every: Span(Duration::from_secs(1)),
            usage_every: "1m".parse().unwrap(),
        };
        if !PathBuf::from("/var/run/docker.sock").exists() {
            println!("skipped: no engine");
            return None;
        }
        // What a test before this one left when it was killed.
        clean::run_clean(&options).await.unwrap();
        let agent = NodeAgent::start(&options).await.unwrap();
        let blobs = data.path().join("blobs");
        std::fs::create_dir(&blobs).unwrap();
        let (sender, progress) = mpsc::channel(10_000);
        let call = Call {
            reporter: Reporter(sender),
            blobs: Blobs::Folder(blobs),
            streams: Streams::Nowhere,
            cancel: CancellationToken::new(),
        };
        let mut node =
            Node { agent, images: BTreeMap::new(), options, progress: tokio::sync::Mutex::new(progress), call, data };
        node.images = node.ask(Report {}).await.unwrap().images;
        if let Some(missing) = needed.iter().find(|name| !node.images.contains_key(**name)) {
            println!("skipped: no image {missing}");
            node.end().await;
            return None;
        }
        let layers = vec![Layer::App, Layer::Routing];
        node.ask(Join { advertise: [127, 0, 0, 1].into(), layers, zone: None, entry: None, others: Vec::new() })
            .await
            .unwrap();
        Some(node)
    }

    pub async fn ask<R: Request>(&self, request: R) -> Result<R::Reply, ActionError> {
        let (action, began) = (request.into(), std::time::Instant::now());
        let name = action.name();
        let outcome = perform(&self.agent, &self.call, action).await;
        println!("{name}: {:?}", began.elapsed());
        let value = outcome?;
        Ok(serde_json::from_value(value).unwrap())
    }

    pub async fn ensure(&self, layer: Layer, spec: Spec) -> Result<Ensured, ActionError> {
        let resource = Resource { layer, key: "key".into(), spec };
        self.ask(Ensure { resource, secrets: [("WORD".to_owned(), "xyzzy".to_owned())].into() }).await
    }

    pub async fn remove(&self, layer: Layer, spec: Spec) -> Result<Removed, ActionError> {
        let resource = Resource { layer, key: "key".into(), spec };
        self.ask(Remove { resource, data: DataFate::Destroy }).await
    }

    /// Stores a source archive of these files.
    pub fn blob(&self, files: &[(&str, &str)]) -> Blob {
        let mut tar = tar::Builder::new(zstd::Encoder::new(Vec::new(), 1).unwrap());
        for (path, content) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_mode(0o644);
            tar.append_data(&mut header, path, content.as_bytes()).unwrap();
        }
        let bytes = tar.into_inner().unwrap().finish().unwrap();
        let sha256 = hex::encode(Sha256::digest(&bytes));
        std::fs::write(self.data.path().join("blobs").join(&sha256), &bytes).unwrap();
        Blob { sha256, size: bytes.len() as u64 }
    }

    /// What was reported since the last look.
    pub async fn said(&self) -> Vec<String> {
        let mut progress = self.progress.lock().await;
        let mut said = Vec::new();
        while let Ok(next) = progress.try_recv() {
            said.push(match next {
                Progress::Log { line, .. } => line,
                Progress::Warning { message } => format!("warning: {message}"),
            });
        }
        said
    }

    pub fn build(&self, source: Blob, commands: &[(&str, bool)]) -> Build {
        Build {
            source,
            cache: format!("app-{}", self.options.prefix.as_str()),
            builder_image: self.images["static"].clone(),
            runtime_image: self.images["static"].clone(),
            commands: commands
                .iter()
                .map(|(run, network)| BuildCommand { title: (*run).into(), run: (*run).into(), network: *network })
                .collect(),
            env: BTreeMap::new(),
            limits: Limits { memory: Some(ByteSize::mib(256)), millicpus: None, pids: Some(100) },
            disk: ByteSize::mib(64),
            timeout: Span(Duration::from_secs(60)),
            output: None,
            labels: BTreeMap::from([("magrathea.release".to_owned(), "1".to_owned())]),
            hidden_by_mounts: Vec::new(),
            in_memory: Vec::new(),
        }
    }

    /// A release that answers with the file `index.html`.
    pub fn web(&self, image: &str, release: u32, replicas: u16) -> ServiceSpec {
        let apache = "ServerRoot /etc/apache2\nListen 8080\nPidFile /tmp/httpd.pid\nServerName app\nDocumentRoot /app\n\
                      Include /etc/apache2/modules.conf\nErrorLog /dev/stderr\nTypesConfig /etc/mime.types\n\
                      <Directory /app>\nRequire all granted\n</Directory>\n";
        ServiceSpec {
            name: format!("{SLUG}-web-v{release}"),
            image: image.into(),
            mode: ServiceMode::Replicated(replicas),
            on: Layer::App,
            spread: false,
            network: ServiceNetwork::Instance { network: SLUG.into(), aliases: vec!["web".into()] },
            user: Some("200001:200001".into()),
            command: Vec::new(),
            env: [("PLAIN".to_owned(), "plain".to_owned())].into(),
            files: vec![FileSpec { target: "/etc/magrathea/apache.conf".into(), mode: 0o444, content: apache.into() }],
            secret_env: [("HIDDEN".to_owned(), SecretText::secret("WORD"))].into(),
            mounts: Vec::new(),
            tmpfs: ["/tmp", "/run"]
                .map(|target| TmpfsSpec { target: target.into(), size: ByteSize::mib(16), mode: 0o1777 })
                .to_vec(),
            read_only: true,
            capabilities: Some(Vec::new()),
            limits: Limits { memory: Some(ByteSize::mib(256)), millicpus: None, pids: Some(200) },
            stop_signal: None,
            stop_grace: Span(Duration::from_secs(10)),
            labels: BTreeMap::new(),
        }
    }

    pub fn healthy(&self, release: u32, replicas: u16) -> AwaitHealthy {
        AwaitHealthy {
            service: format!("{SLUG}-web-v{release}"),
            replicas,
            probe: Probe::Http(HttpProbe {
                port: 8080,
                host: "app.test".into(),
                path: "/".into(),
                expect_low: 200,
                expect_high: 399,
                contains: None,
            }),
            attempts: None,
            interval: Span(Duration::from_millis(20)),
            attempt_timeout: Span(Duration::from_secs(10)),
            timeout: Span(Duration::from_secs(30)),
        }
    }

    /// Makes a release image of one page.
    pub async fn page(&self, text: &str) -> String {
        let source = self.blob(&[("index.html", text)]);
        self.ask(self.build(source, &[])).await.unwrap().image
    }

    pub async fn end(self) {
        self.agent.end().await;
        clean::run_clean(&self.options).await.unwrap();
    }
}

impl Drop for Node {
    /// The runtime of a test that fails waits for the agent's threads.
    fn drop(&mut self) {
        self.agent.stop();
    }
}
