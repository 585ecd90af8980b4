//! Detect, build, release and plan: from the source to a recorded release with its plan. What does not need the image
//! is checked before the build and laid beside it.

use std::collections::BTreeMap;
use std::time::Duration;

use magrathea_buildpacks::{Recipe, Tree, explain_failure, plan_build};
use magrathea_core::api::Phase;
use magrathea_core::manifest::{Stack, WritableKind};
use magrathea_core::names::{Layer, ReleaseNumber};
use magrathea_core::plan::{Limits, Plan, diff_plans};
use magrathea_core::units::{ByteSize, Span};
use magrathea_core::wire::{Build, Built};

use super::back::bring_back;
use super::lay::ensure_all;
use super::scale::{rescale, stand};
use super::{Attempt, Job, Origin, Reused, count, size};
use crate::db::instances::Instance;
use crate::db::releases::Configured;
use crate::db::{Client, apps, deploys, plans, releases};
use crate::engine::capacity::promise;
use crate::engine::carry::ensure_image;
use crate::engine::failure::Failure;
use crate::engine::layout::{Ingredients, Part, TO_BE_BUILT, gather, hosts_of, parts, settle};
use crate::engine::quotas::{near_quotas, overrun};

/// What is not worth a word.
const BRIEFLY: Duration = Duration::from_secs(1);
/// How long a deploy waits for its cluster's nodes, which may just be coming back with the gateway.
const NODES: Duration = Duration::from_secs(20);
/// How long a deploy waits for the shared services of a node that is connected.
const PREPARING: Duration = Duration::from_secs(150);
/// Limits of a build that the manifest does not set.
const BUILD_TIMEOUT: Span = Span(Duration::from_secs(15 * 60));
const BUILD_MEMORY: ByteSize = ByteSize::gib(1);
const BUILD_DISK: ByteSize = ByteSize::gib(4);
const BUILD_PIDS: u32 = 512;

/// What the later phases need beside the attempt.
pub struct Made {
    pub plan: Plan,
}

/// Where a new release stands in its instance.
struct Place {
    number: ReleaseNumber,
    generation: u64,
    parent: Option<String>,
    config_version: i64,
}

pub async fn make_release(job: &Job, attempt: &mut Attempt) -> Result<Made, Failure> {
    let recorder = attempt.recorder.clone();
    let origin = match &job.origin {
        Origin::Back(release) => return bring_back(job, attempt, *release).await,
        Origin::Scale(wanted) => return rescale(job, attempt, wanted).await,
        Origin::Again(reused) => Image::Known(reused),
        Origin::Source(tree) => Image::Build(find_recipe(job, tree)?),
    };
    for warning in origin.recipe().into_iter().flat_map(|recipe| &recipe.warnings) {
        recorder.warn(warning);
    }
    wait_for_nodes(attempt).await?;
    let resolved = match &origin {
        Image::Build(recipe) => {
            refresh_images(attempt, recipe).await;
            settle(job.resolved.clone(), recipe)
        }
        Image::Known(_) => job.resolved.clone(),
    };
    let config_version = match &origin {
        Image::Known(Reused { config_version: Some(version), .. }) => *version,
        _ => apps::load_config_version(&job.site.state.db.conn().await?, job.site.instance.app).await?,
    };
    let configured = Configured { resolved, config_version };
    let (mut ingredients, place) =
        tokio::try_join!(gather(job.site.clone(), configured, &job.blob.sha256), find_place(attempt, config_version))?;
    let (old, place) = place;
    attempt.old = old;
    attempt.release = place.number;
    attempt.applier.secrets = ingredients.secrets.values.clone();
    attempt.resolved = ingredients.resolved.clone();
    for (process, count) in &ingredients.scales {
        let app = &ingredients.resolved.sections.app_layer;
        let automatic = app.replicas.scaling().filter(|_| process.is_web()).map(|_| app.replicas.to_string());
        let says = app.replicas_of(process).filter(|says| says != count).map(|says| says.to_string());
        if let Some(says) = automatic.or(says) {
            recorder.warn(format!("{process} keeps {count}, as `td app scale` has set it; magrathea.yml says {says}"));
        }
    }
    stand(&mut ingredients.scales, &ingredients.resolved, attempt.old.as_ref());

    // Whatever the plan says about the configuration is better said before the build than after it.
    let stack = ingredients.resolved.sections.app_layer.stack.unwrap_or(Stack::Php);
    let reason = origin.reason();
    let draft = match render(&ingredients, stack, TO_BE_BUILT, &place) {
        Ok(draft) => draft,
        Err(failure) => {
            recorder.enter(Phase::Plan, &reason).await?;
            return Err(failure);
        }
    };

    if let Err(failure) = admit(job, attempt, &origin, &draft).await {
        recorder.enter(Phase::Plan, &reason).await?;
        return Err(failure);
    }
    if attempt.old.is_none() {
        deploys::set_ground(&job.site.state.db.conn().await?, attempt.deploy, &draft).await?;
    }
    recorder.enter(Phase::Build, &reason).await?;
    let image = async {
        match &origin {
            Image::Build(recipe) => {
                let built = build(job, attempt, recipe, &ingredients).await?;
                // It was built on the first of them.
                if job.site.replica_nodes(&draft.resources).len() > 1 {
                    ensure_image(&job.site, &recorder, (&built.image, &draft.resources), None).await?;
                }
                Ok(built)
            }
            Image::Known(reused) => {
                let image = (reused.image.as_str(), draft.resources.as_slice());
                ensure_image(&job.site, &recorder, image, reused.elsewhere.as_ref()).await?;
                Ok(Built { image: reused.image.clone(), size: reused.size })
            }
        }
    };
    let (built, ()) = tokio::try_join!(image, lay_new_ground(attempt, &draft))?;
    attempt.image = Some(built.image.clone());

    recorder.enter(Phase::Release, &size(built.size)).await?;
    let plan = render(&ingredients, stack, &built.image, &place)?;
    record(job, attempt, &ingredients, &built, &plan, &place).await?;
    attempt.plan = Some(plan.clone());
    recorder.enter(Phase::Plan, &format!("release {}", place.number)).await?;
    Ok(Made { plan })
}

/// Whether there is room for it: in the cluster, and below its own quota. What brings no new code takes no more disk.
async fn admit(job: &Job, attempt: &Attempt, origin: &Image<'_>, draft: &Plan) -> Result<(), Failure> {
    if matches!(origin, Image::Build(_))
        && let Some(failure) = overrun(&job.site.state.db.conn().await?, &job.site, draft).await?
    {
        return Err(failure);
    }
    match near_quotas(&job.site, &attempt.resolved.sections, job.actor.as_ref()).await {
        Ok(near) => near.into_iter().for_each(|line| attempt.recorder.warn(line)),
        Err(error) => tracing::warn!(error = format!("{error:#}"), "a deploy does not hear of its quotas"),
    }
    promise(&job.site, attempt.deploy, draft).await
}

/// Where a new release's image comes from.
enum Image<'a> {
    Build(Box<Recipe>),
    Known(&'a Reused),
}

impl Image<'_> {
    fn recipe(&self) -> Option<&Recipe> {
        match self {
            Image::Build(recipe) => Some(recipe),
            Image::Known(_) => None,
        }
    }

    fn reason(&self) -> String {
        match self {
            Image::Build(recipe) => format!("{}: {}", recipe.buildpack, recipe.reason),
            Image::Known(reused) => format!("the image of {}", reused.release),
        }
    }
}

fn find_recipe(job: &Job, tree: &Tree) -> Result<Box<Recipe>, Failure> {
    let recipe = plan_build(tree, &job.resolved.sections).map_err(|error| {
        let mut failure = Failure::new("build_failed", error.message);
        failure.hint = error.hint;
        failure
    })?;
    Ok(Box::new(recipe))
}

pub async fn wait_for_nodes(attempt: &Attempt) -> Result<(), Failure> {
    let state = &attempt.site.state;
    let nodes = attempt.site.needed_nodes();
    let wait = async |patience: Duration| {
        if tokio::time::timeout(patience, state.engine.wait_ready(&nodes)).await.is_ok() {
            return None;
        }
        state.engine.unready(&nodes)
    };
    let Some(missing) = wait(BRIEFLY).await else { return Ok(()) };
    attempt.recorder.warn(format!("waiting for node {missing}"));
    let mut unready = wait(NODES).await;
    // One that is connected is having its shared services laid, which takes a while the first time.
    if unready.as_ref().is_some_and(|node| state.hub.is_connected(node)) {
        unready = wait(PREPARING).await;
    }
    let Some(missing) = unready else { return Ok(()) };
    let what = match state.hub.is_connected(&missing) {
        true => "is not ready: its shared services could not be laid; the gateway's log says why",
        false => "is not connected",
    };
    Err(Failure::new("node", format!("node {missing} {what}")).hint("see `td cluster info`"))
}

/// Asks nodes again that have not told of a needed image: it may have been built since they connected.
async fn refresh_images(attempt: &Attempt, recipe: &Recipe) {
    let hub = &attempt.site.state.hub;
    for node in attempt.site.needed_nodes() {
        let images = hub.report(&node).unwrap_or_default().images;
        if !images.contains_key(&recipe.runtime_image) || !images.contains_key(&recipe.builder_image) {
            // A node that cannot answer fails the build with a better message.
            let _ = hub.refresh(&node).await;
        }
    }
}

async fn find_place(attempt: &Attempt, config_version: i64) -> Result<(Option<Plan>, Place), Failure> {
    let conn = attempt.site.state.db.conn().await?;
    let instance = &attempt.site.instance;
    // On one connection these are sent together and answered together.
    let (number, generation, old) = tokio::try_join!(
        releases::next_number(&conn, instance.id),
        plans::next_generation(&conn, instance.id),
        plans::load_serving_plan(&conn, instance.id),
    )?;
    let parent = old.as_ref().map(Plan::hash);
    Ok((old, Place { number, generation, parent, config_version }))
}

fn render(ingredients: &Ingredients, stack: Stack, image: &str, place: &Place) -> Result<Plan, Failure> {
    ingredients.render(stack, place.number, image, place.generation, place.parent.clone())
}

/// Lays what is new and needs no image. What exists and would change waits until the build is done.
async fn lay_new_ground(attempt: &Attempt, draft: &Plan) -> Result<(), Failure> {
    let unchanged = |key: &str, hash: String| match attempt.old.as_ref().and_then(|old| old.get(key)) {
        None => true,
        Some(before) => before.hash() == hash,
    };
    let ground = parts(draft, Part::Ground);
    let ground: Vec<_> = ground.into_iter().filter(|r| unchanged(&r.key, r.hash())).collect();
    ensure_all(attempt, &ground).await
}

async fn build(job: &Job, attempt: &Attempt, recipe: &Recipe, ingredients: &Ingredients) -> Result<Built, Failure> {
    let image = |name: &str| {
        ingredients.images.get(name).cloned().ok_or_else(|| {
            Failure::new("node", format!("no node of cluster {} has the image {name}", job.site.instance.cluster))
                .hint("build it on the node with layers/images/build.sh")
        })
    };
    let sections = &ingredients.resolved.sections;
    let settings = &sections.build;
    let labels = [
        ("magrathea.slug", job.site.slug()),
        ("magrathea.app", job.site.instance.app_name.to_string()),
        ("magrathea.deploy", job.deploy.to_string()),
        ("magrathea.release", attempt.release.0.to_string()),
    ];
    let writable = sections.storage.writable.iter().map(|(path, writable)| (path.clone(), writable.kind));
    let (in_memory, kept): (Vec<_>, Vec<_>) = writable.partition(|(_, kind)| *kind == WritableKind::Tmp);
    let paths = |of: Vec<(String, WritableKind)>| of.into_iter().map(|(path, _)| path).collect();
    let request = Build {
        source: job.blob.clone(),
        cache: job.site.instance.app.to_string(),
        builder_image: image(if recipe.commands.is_empty() { &recipe.runtime_image } else { &recipe.builder_image })?,
        runtime_image: image(&recipe.runtime_image)?,
        commands: recipe.commands.clone(),
        env: settings.env.clone(),
        limits: Limits {
            memory: Some(settings.memory.unwrap_or(BUILD_MEMORY)),
            millicpus: None,
            pids: Some(BUILD_PIDS),
        },
        disk: settings.disk.unwrap_or(BUILD_DISK),
        timeout: settings.timeout.unwrap_or(BUILD_TIMEOUT),
        output: recipe.output.clone(),
        labels: labels.into_iter().map(|(name, value)| (name.to_owned(), value)).collect::<BTreeMap<_, _>>(),
        hidden_by_mounts: paths(kept),
        in_memory: paths(in_memory),
    };
    let node = attempt.applier.first_node(Layer::App)?;
    let built = job.site.state.hub.call(&node, request, attempt.listener()).await;
    built.map_err(|error| {
        let mut failure = Failure::call(&node, "build_failed", error);
        failure.hint = failure.hint.or_else(|| explain_failure(&failure.log_tail));
        failure
    })
}

/// Records release, plan and hosts in one transaction.
async fn record(
    job: &Job,
    attempt: &Attempt,
    ingredients: &Ingredients,
    built: &Built,
    plan: &Plan,
    place: &Place,
) -> Result<(), Failure> {
    let instance = &job.site.instance;
    let hosts = hosts_of(&job.site, &ingredients.resolved);
    let mut conn = job.site.state.db.conn().await?;
    check_hosts(&conn, instance, &hosts).await?;
    let tx = conn.transaction().await.map_err(crate::db::DbError::from)?;
    let release = releases::NewRelease {
        instance: instance.id,
        number: place.number,
        image: &built.image,
        size: built.size,
        source: &job.blob.sha256,
        resolved: &ingredients.resolved,
        config_version: place.config_version,
        commit: job.info.commit.as_deref(),
        message: job.info.message.as_deref(),
        author: job.info.author.as_deref(),
    };
    let urls = ingredients.urls();
    releases::insert_release(&tx, &release).await?;
    plans::insert_plan(&tx, instance.id, place.number, plan).await?;
    deploys::set_release(&tx, attempt.deploy, place.number, &built.image, &urls).await?;
    releases::claim_hosts(&tx, &instance.cluster, instance.id, &hosts).await?;
    Ok(tx.commit().await.map_err(crate::db::DbError::from)?)
}

/// A host belongs to one instance.
pub async fn check_hosts(client: &impl Client, instance: &Instance, hosts: &[String]) -> Result<(), Failure> {
    let taken = releases::find_taken_hosts(client, &instance.cluster, instance.id, hosts).await?;
    match taken.first() {
        None => Ok(()),
        Some((host, owner)) => Err(Failure::new("host_taken", format!("routing.domains: {host} belongs to {owner}"))
            .hint("take another name, or remove it there first")),
    }
}

/// What a plan changes, in a few words.
pub fn summary(old: Option<&Plan>, plan: &Plan) -> String {
    let changes = diff_plans(old, plan).len();
    format!("generation {}, {}", plan.generation, count(changes, "change"))
}
