//! All routes in one table, and the OpenAPI document made from their handlers.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{DefaultBodyLimit, Request};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::{delete, get, post, put};
use axum::{Json, Router};
use tower_http::catch_panic::CatchPanicLayer;
use utoipa::OpenApi;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};

use super::error::{ApiError, Code};
use super::throttle::Throttle;
use super::{
    access, apps, auth, billing, certificates, clusters, config, configurations, deploys, drains, enrol, git, leftover,
    logs, people, quotas, releases, remote, respond, usage,
};
use crate::state::State;

/// The largest JSON body, in bytes. A source has limits of its own.
const MAX_BODY: usize = 1 << 20;

/// How long a request may take that neither carries a source nor waits for nodes.
const TIME_LIMIT: Duration = Duration::from_secs(30);

/// The API of a gateway.
pub fn router(state: Arc<State>) -> Router {
    let throttle = Arc::new(Throttle::default());

    // Answered at once.
    let quick = Router::new()
        .route("/v1/apps", get(apps::list).post(apps::create))
        .route("/v1/apps/{app}", get(apps::show))
        .route("/v1/apps/{app}/deploys", get(deploys::list))
        .route("/v1/apps/{app}/instances", get(apps::list_instances))
        .route("/v1/apps/{app}/instances/{label}", get(apps::show_instance))
        .route("/v1/apps/{app}/instances/{label}/preview", put(apps::extend_preview))
        .route("/v1/apps/{app}/instances/{label}/runs", post(remote::start_run))
        .route("/v1/apps/{app}/instances/{label}/tasks", get(remote::list_tasks))
        .route("/v1/apps/{app}/instances/{label}/tasks/{task}/runs", post(remote::start_task))
        .route("/v1/apps/{app}/instances/{label}/releases/{release}", get(releases::show))
        .route("/v1/apps/{app}/instances/{label}/releases/{release}/diff", get(releases::diff))
        .route("/v1/apps/{app}/instances/{label}/rollback", post(releases::rollback))
        .route("/v1/apps/{app}/instances/{label}/scale", get(releases::processes).post(releases::scale))
        .route("/v1/apps/{app}/instances/{label}/promote", post(releases::promote))
        .route("/v1/apps/{app}/releases", get(releases::list))
        .route("/v1/apps/{app}/configurations", get(configurations::list))
        .route("/v1/apps/{app}/instances/{label}/configurations/{id}", get(configurations::show))
        .route("/v1/apps/{app}/instances/{label}/configurations/{id}/diff", get(configurations::diff))
        .route("/v1/apps/{app}/runs", get(remote::list_runs))
        .route("/v1/runs/{id}", get(remote::show_run))
        .route("/v1/runs/{id}/stop", post(remote::stop_run))
        .route("/v1/apps/{app}/config", get(config::list).post(config::change))
        .route("/v1/apps/{app}/config-history", get(config::history))
        .route("/v1/apps/{app}/config-values", get(config::export))
        .route("/v1/apps/{app}/instances/{label}/db/rotate", post(config::rotate))
        .route("/v1/apps/{app}/config/{key}", put(config::set).delete(config::unset))
        .route("/v1/deploys/{id}", get(deploys::show))
        .route("/v1/deploys/{id}/cancel", post(deploys::cancel))
        .route("/v1/deploys/{id}/promote", post(deploys::promote))
        .route("/v1/apps/{app}/instances/{label}/drains", get(drains::list).post(drains::add))
        .route("/v1/apps/{app}/instances/{label}/drains/{id}", delete(drains::remove))
        .route("/v1/billing/months", get(billing::list))
        .route("/v1/billing/adjustments", get(billing::list_adjustments).post(billing::adjust))
        .route("/v1/certificates", get(certificates::list))
        .route("/v1/certificates/{name}", get(certificates::show).put(certificates::set).delete(certificates::remove))
        .route("/v1/clusters", get(clusters::list))
        .route("/v1/clusters/{cluster}", get(clusters::show))
        .route("/v1/clusters/{cluster}/nodes/{node}/token", post(enrol::token))
        .route("/v1/gateway", get(enrol::gateway))
        .route("/v1/status", get(clusters::status))
        .route("/v1/timeline", get(apps::timeline))
        .route("/v1/usage", get(usage::report))
        .route("/v1/usage/now", get(usage::now))
        .route("/v1/whoami", get(people::whoami))
        .route("/v1/login", delete(access::log_out))
        .route("/v1/organisations", get(people::list_organisations).post(people::create))
        .route("/v1/organisations/{organisation}", get(people::show_organisation).delete(people::remove_organisation))
        .route("/v1/organisations/{organisation}/invitations", get(people::list_invitations).post(people::invite))
        .route("/v1/organisations/{organisation}/invitations/{id}", delete(people::withdraw))
        .route("/v1/organisations/{organisation}/teams", get(people::list_teams).post(people::create_team))
        .route("/v1/organisations/{organisation}/teams/{team}", delete(people::remove_team))
        .route(
            "/v1/organisations/{organisation}/teams/{team}/members/{person}",
            put(people::add_member).delete(people::remove_member),
        )
        .route("/v1/people", get(people::list_people))
        .route("/v1/people/{person}", get(people::show_person).delete(people::remove_person))
        .route("/v1/people/{person}/keys", get(people::list_keys).post(people::add_key))
        .route("/v1/people/{person}/keys/{key}", delete(people::remove_key))
        .route("/v1/people/{person}/tokens", get(people::list_tokens))
        .route("/v1/people/self/tokens", get(people::list_own_tokens).post(people::create_token))
        .route("/v1/people/{person}/tokens/{id}", delete(people::remove_token))
        .route("/v1/grants", get(access::list_grants).post(access::add_grant))
        .route("/v1/grants/{id}", delete(access::remove_grant))
        .route("/v1/lists", get(access::list_lists))
        .route("/v1/lists/{name}", put(access::set_list).delete(access::remove_list))
        .route("/v1/doors", get(access::list_doors))
        .route("/v1/quotas", get(quotas::list).put(quotas::set).delete(quotas::remove))
        .route("/v1/doors/{door}", put(access::set_door))
        .layer(middleware::from_fn(time_limit));

    // As long as a source takes to arrive, a deploy to run, or data to go.
    let slow = Router::new()
        .route("/v1/apps/{app}", delete(apps::destroy))
        .route("/v1/apps/{app}/instances/{label}", delete(apps::destroy_instance))
        .route("/v1/apps/{app}/instances/{label}/preview", delete(apps::destroy_preview))
        .route("/v1/apps/{app}/deploys", post(deploys::submit))
        .route("/v1/apps/{app}/instances/{label}/configurations/{id}/restore", post(configurations::restore))
        .route("/v1/apps/{app}/deploys/label", post(deploys::submit_label))
        .route("/v1/apps/{app}/deploys/all", post(deploys::submit_all))
        .route("/v1/apps/{app}/plan", post(deploys::plan))
        // As long as it takes to add up a month.
        .route("/v1/billing/preview", get(billing::preview))
        .route("/v1/billing/costs", get(billing::costs))
        .route("/v1/billing/months/{month}/close", post(billing::close))
        .route("/v1/billing/months/{month}/export", get(billing::export))
        .route("/v1/deploys/{id}/events", get(deploys::events))
        .route("/v1/apps/{app}/instances/{label}/shell", get(remote::shell))
        .route("/v1/apps/{app}/instances/{label}/run", get(remote::run))
        .route("/v1/apps/{app}/instances/{label}/db", get(remote::db))
        .route("/v1/apps/{app}/instances/{label}/tunnel", get(remote::tunnel))
        .route("/v1/apps/{app}/instances/{label}/sftp", get(remote::sftp))
        .route("/v1/apps/{app}/instances/{label}/logs", get(logs::read));

    let protected = quick
        .merge(slow)
        .route_layer(middleware::from_fn_with_state((Arc::clone(&state), Arc::clone(&throttle)), auth::authenticate));

    // The only doors that open without a token.
    let public = Router::new()
        .route("/healthz", get(clusters::health))
        .route("/v1/openapi.json", get(async || Json(openapi())))
        .route("/v1/enrol", post(enrol::enrol))
        .route("/v1/authority", get(access::authority))
        .route("/v1/login", post(access::log_in))
        .route("/v1/login/challenge", post(access::challenge))
        .route("/v1/join", post(access::join))
        .layer(axum::Extension(Arc::clone(&throttle)))
        .layer(middleware::from_fn(time_limit));

    // Asks for a token in git's own way.
    let git = git::router().layer(axum::Extension(throttle));

    protected
        .merge(public)
        .merge(git)
        .fallback(async || ApiError::new(Code::RouteNotFound, "this path is not part of the API"))
        .method_not_allowed_fallback(async || {
            ApiError::new(Code::MethodNotAllowed, "this path does not know this method")
        })
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(CatchPanicLayer::custom(respond::Panicked))
        .layer(middleware::from_fn(leftover::discard))
        .layer(middleware::from_fn(respond::finish))
        .with_state(state)
}

async fn time_limit(request: Request, next: Next) -> Result<Response, ApiError> {
    tokio::time::timeout(TIME_LIMIT, next.run(request)).await.map_err(|_| {
        ApiError::new(Code::RequestTimeout, format!("the request took longer than {} s", TIME_LIMIT.as_secs()))
    })
}

/// The API's description.
pub fn openapi() -> utoipa::openapi::OpenApi {
    let mut document = Document::openapi();
    let token = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some("A person's token.")).build();
    let components = document.components.get_or_insert_default();
    components.add_security_scheme("token", SecurityScheme::Http(token));
    // Handlers of different files may have the same name; ids must not.
    for item in document.paths.paths.values_mut() {
        let operations = [&mut item.get, &mut item.post, &mut item.put, &mut item.delete];
        for operation in operations.into_iter().flatten() {
            let tag = operation.tags.iter().flatten().next().cloned().unwrap_or_default();
            operation.operation_id = operation.operation_id.take().map(|name| format!("{tag}_{name}"));
        }
    }
    document
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Magrathea",
        description = "The gateway's HTTP API. Every error has the body ErrorBody; its codes are listed in errors.md.",
        license(name = "Apache-2.0", identifier = "Apache-2.0")
    ),
    security(("token" = [])),
    tags(
        (name = "apps", description = "Apps, their instances and their history."),
        (name = "deploys", description = "From a source to a release that serves."),
        (name = "remote", description = "Shells, one-off commands, database clients, tunnels and files."),
        (name = "config", description = "Secret values of apps. They are never told."),
        (name = "usage", description = "What instances use."),
        (name = "logs", description = "What instances say."),
        (name = "certificates", description = "Certificates for apps' domains."),
        (name = "billing", description = "What usage costs."),
        (name = "people", description = "Organisations, people, teams, what they prove themselves with, and their roles."),
        (name = "access", description = "From where apps and the gateway itself may be used."),
        (name = "quotas", description = "How much traffic may be taken in a month."),
        (name = "clusters", description = "Clusters and their nodes."),
        (name = "gateway", description = "The gateway itself.")
    ),
    paths(
        apps::list, apps::create, apps::show, apps::destroy, apps::list_instances, apps::show_instance,
        apps::destroy_instance, apps::extend_preview, apps::destroy_preview, apps::timeline,
        deploys::submit, deploys::submit_label, deploys::submit_all, deploys::plan, deploys::list, deploys::show, deploys::events, deploys::cancel, deploys::promote,
        releases::list, releases::show, releases::diff, releases::rollback, releases::processes, releases::scale,
        releases::promote,
        config::list, config::set, config::unset, config::change, config::history, config::export, config::rotate,
        configurations::list, configurations::show, configurations::diff, configurations::restore,
        remote::shell, remote::run, remote::db, remote::tunnel, remote::sftp,
        remote::list_tasks, remote::start_task, remote::start_run, remote::list_runs, remote::show_run, remote::stop_run,
        logs::read, drains::list, drains::add, drains::remove,
        billing::preview, billing::list, billing::close, billing::export, billing::list_adjustments, billing::adjust,
        billing::costs,
        certificates::list, certificates::show, certificates::set, certificates::remove,
        clusters::list, clusters::show, clusters::status, clusters::health,
        enrol::token, enrol::enrol, enrol::gateway,
        people::whoami, people::list_organisations, people::create, people::show_organisation,
        people::remove_organisation, people::list_people, people::show_person, people::remove_person,
        people::list_invitations, people::invite, people::withdraw, people::list_teams, people::create_team,
        people::remove_team, people::add_member, people::remove_member, people::list_keys, people::add_key,
        people::remove_key, people::list_tokens, people::create_token, people::remove_token,
        access::list_grants, access::add_grant, access::remove_grant, access::list_lists, access::set_list,
        access::remove_list, access::list_doors, access::set_door, access::authority, access::challenge,
        access::log_in, access::join, access::log_out, usage::report, usage::now,
        quotas::list, quotas::set, quotas::remove,
    ),
    components(schemas(
        magrathea_core::api::DeployEvent, magrathea_core::api::ErrorBody, magrathea_core::api::SourceInfo,
        magrathea_core::logs::LogRecord
    ))
)]
struct Document;
