//! The one error of the API's edge. Its codes are stable and documented in docs/reference/errors.md.

use axum::http::StatusCode;
use magrathea_core::diagnostics::Diagnostics;
use magrathea_core::names::NameError;

use crate::db::DbError;

macro_rules! codes {
    ($($name:ident $text:literal $status:ident $meaning:literal,)*) => {
        /// A stable code; its HTTP status belongs to it.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Code {
            $(#[doc = $meaning] $name,)*
        }

        impl Code {
            /// All codes, in the order in which they are documented.
            pub const ALL: &'static [Code] = &[$(Code::$name,)*];

            /// The code as clients see it.
            pub fn as_str(self) -> &'static str {
                match self { $(Code::$name => $text,)* }
            }

            pub fn status(self) -> StatusCode {
                match self { $(Code::$name => StatusCode::$status,)* }
            }

            /// What it means, in a sentence.
            pub fn meaning(self) -> &'static str {
                match self { $(Code::$name => $meaning,)* }
            }
        }
    };
}

codes! {
    Unauthenticated "unauthenticated" UNAUTHORIZED "No token, or one that is unknown, revoked or expired.",
    LoginFailed "login_failed" UNAUTHORIZED "The key is unknown, the signature is not its own, or the challenge is stale.",
    InvitationInvalid "invitation_invalid" UNAUTHORIZED "The invitation is unknown, used or expired.",
    EnrolTokenInvalid "enrol_token_invalid" UNAUTHORIZED "The node's one-time token is unknown, used or expired.",
    Forbidden "forbidden" FORBIDDEN "The person may not do this.",
    TooManyAttempts "too_many_attempts" TOO_MANY_REQUESTS "Too many failed authentications from this address; wait and try again.",
    RouteNotFound "route_not_found" NOT_FOUND "The path is not part of the API.",
    MethodNotAllowed "method_not_allowed" METHOD_NOT_ALLOWED "The path does not know this method.",
    AppNotFound "app_not_found" NOT_FOUND "There is no app of this name.",
    OrganisationNotFound "organisation_not_found" NOT_FOUND "There is no organisation of this name.",
    InstanceNotFound "instance_not_found" NOT_FOUND "The app has no instance with this label.",
    PersonNotFound "person_not_found" NOT_FOUND "There is no person of this name.",
    TeamNotFound "team_not_found" NOT_FOUND "The organisation has no team of this name.",
    GrantNotFound "grant_not_found" NOT_FOUND "There is no grant with this id.",
    KeyNotFound "key_not_found" NOT_FOUND "The person has no such key.",
    TokenNotFound "token_not_found" NOT_FOUND "The person has no such token.",
    InvitationNotFound "invitation_not_found" NOT_FOUND "There is no such open invitation.",
    ListNotFound "list_not_found" NOT_FOUND "There is no access list of this name.",
    ReleaseNotFound "release_not_found" NOT_FOUND "The instance has no such release.",
    ConfigurationNotFound "configuration_not_found" NOT_FOUND "The instance's history has no such configuration.",
    LayerNotRestorable "layer_not_restorable" CONFLICT "The layer cannot be put back without the rest of its release.",
    DeployNotFound "deploy_not_found" NOT_FOUND "There is no deploy with this id.",
    ClusterNotFound "cluster_not_found" NOT_FOUND "clusters.yml has no cluster of this name.",
    NodeNotFound "node_not_found" NOT_FOUND "The cluster has no node of this name.",
    ConfigNotFound "config_not_found" NOT_FOUND "No such value is set.",
    CertificateNotFound "certificate_not_found" NOT_FOUND "There is no certificate of this name.",
    DrainNotFound "drain_not_found" NOT_FOUND "The instance has no such drain.",
    DrainInvalid "drain_invalid" UNPROCESSABLE_ENTITY "The log cannot be sent there, or not so.",
    NameInvalid "name_invalid" UNPROCESSABLE_ENTITY "A name breaks the rules for names.",
    NameTaken "name_taken" CONFLICT "Something of this name exists already.",
    KeyInvalid "key_invalid" UNPROCESSABLE_ENTITY "The SSH key is malformed, too weak, or private.",
    KeyTaken "key_taken" CONFLICT "Somebody has this SSH key already.",
    ListInvalid "list_invalid" UNPROCESSABLE_ENTITY "An entry of an access list is neither an address, a block, a range nor a list's name.",
    LastAdministrator "last_administrator" CONFLICT "Nobody would be left who administers it.",
    LockedOut "locked_out" CONFLICT "The list would shut out the address from which it was set.",
    RatesMissing "rates_missing" CONFLICT "The gateway has no rates.yml, or cannot read it.",
    RatesInvalid "rates_invalid" UNPROCESSABLE_ENTITY "rates.yml has mistakes, which are listed in diagnostics, or does not fit to the months that are closed.",
    MonthOpen "month_open" CONFLICT "The month is not over, or another one must be closed before it.",
    MonthNotFound "month_not_found" NOT_FOUND "No month of this name is closed.",
    UsageIncomplete "usage_incomplete" CONFLICT "Nodes are away that may have usage of the month to tell.",
    AdjustmentInvalid "adjustment_invalid" UNPROCESSABLE_ENTITY "The amount or the reason of an adjustment is not acceptable.",
    NotEmpty "not_empty" CONFLICT "There is something in it that must be taken away first.",
    InUse "in_use" CONFLICT "Something uses it.",
    QuotaInvalid "quota_invalid" UNPROCESSABLE_ENTITY "The amount of a quota, or what it is of, is not acceptable.",
    QuotaNotFound "quota_not_found" NOT_FOUND "It has no such quota.",
    LimitReached "limit_reached" CONFLICT "There are as many as there may be.",
    QueryInvalid "query_invalid" BAD_REQUEST "A query parameter is missing, unknown or malformed.",
    BodyInvalid "body_invalid" UNPROCESSABLE_ENTITY "The body is not the JSON that the route wants; unknown fields are refused.",
    BodyTooLarge "body_too_large" PAYLOAD_TOO_LARGE "The body is larger than the route accepts.",
    MediaTypeUnsupported "media_type_unsupported" UNSUPPORTED_MEDIA_TYPE "The body's Content-Type is not the one that the route accepts.",
    RequestTimeout "request_timeout" REQUEST_TIMEOUT "The request took too long to arrive or to be answered.",
    ConfirmationMismatch "confirmation_mismatch" CONFLICT "The confirmation does not repeat the name of what would be destroyed.",
    SourceInvalid "source_invalid" UNPROCESSABLE_ENTITY "The source is not an acceptable archive (damaged, or entries that would escape it).",
    SourceTooLarge "source_too_large" PAYLOAD_TOO_LARGE "The source exceeds a limit on size or number of files.",
    ManifestInvalid "manifest_invalid" UNPROCESSABLE_ENTITY "magrathea.yml has mistakes; all are listed in diagnostics.",
    LabelUnknown "label_unknown" UNPROCESSABLE_ENTITY "magrathea.yml has no such label, or several and none was chosen.",
    ClusterUnknown "cluster_unknown" UNPROCESSABLE_ENTITY "The label's cluster is not in clusters.yml, or several are and none was chosen.",
    ClusterAmbiguous "cluster_ambiguous" UNPROCESSABLE_ENTITY "The label lives on several clusters and the act is about one; clusters lists them.",
    BuildpackUnknown "buildpack_unknown" UNPROCESSABLE_ENTITY "No buildpack recognises the source, or the one asked for refuses it.",
    PlanInvalid "plan_invalid" UNPROCESSABLE_ENTITY "The instance cannot be laid out as asked.",
    SecretMissing "secret_missing" UNPROCESSABLE_ENTITY "magrathea.yml names a secret that has no value.",
    HostTaken "host_taken" CONFLICT "Another instance serves one of the hosts.",
    CertificateInvalid "certificate_invalid" UNPROCESSABLE_ENTITY "The certificate chain or key is malformed, or they do not belong together.",
    CsrInvalid "csr_invalid" UNPROCESSABLE_ENTITY "The certificate signing request is malformed or badly signed.",
    Locked "locked" CONFLICT "Another deploy of the instance is under way.",
    NotOnTrial "not_on_trial" CONFLICT "The deploy has no release on trial.",
    NotCancellable "not_cancellable" CONFLICT "The deploy is over, or past the cut-over.",
    IdempotencyMismatch "idempotency_mismatch" CONFLICT "The idempotency key was used for something else.",
    NotPreview "not_preview" CONFLICT "The instance is no preview: it does not expire, and its label's deployers cannot take it away.",
    NotServing "not_serving" CONFLICT "The instance serves no release yet.",
    ServiceMissing "service_missing" CONFLICT "The instance has no such service: no database, no memcached, no writable paths.",
    TaskNotFound "task_not_found" NOT_FOUND "The release that serves names no such task.",
    RunNotFound "run_not_found" NOT_FOUND "There is no run with this id.",
    UpgradeRequired "upgrade_required" UPGRADE_REQUIRED "The route is a websocket; the request did not ask for one.",
    NodeUnavailable "node_unavailable" SERVICE_UNAVAILABLE "A node that is needed is not connected.",
    ActionFailed "action_failed" BAD_GATEWAY "A node could not do what it was asked.",
    DiskFull "disk_full" INSUFFICIENT_STORAGE "The gateway's disk has no room for more.",
    StoreUnavailable "store_unavailable" SERVICE_UNAVAILABLE "The database cannot be reached at the moment.",
    ShuttingDown "shutting_down" SERVICE_UNAVAILABLE "The gateway is about to end; try again soon.",
    Internal "internal" INTERNAL_SERVER_ERROR "A defect of the gateway's; the request's id names it in the log.",
}

/// What a handler answers when it cannot do what was asked.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    pub code: Code,
    pub message: String,
    pub hint: Option<String>,
    pub diagnostics: Option<Diagnostics>,
    /// Those that can be meant.
    pub clusters: Vec<String>,
    /// The cause, for the log alone.
    #[source]
    pub cause: Option<anyhow::Error>,
}

impl ApiError {
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        ApiError { code, message: message.into(), hint: None, diagnostics: None, clusters: Vec::new(), cause: None }
    }

    /// A defect: the client sees no more than the request's id, the log has the cause.
    pub fn internal(cause: impl Into<anyhow::Error>) -> Self {
        Self::new(Code::Internal, "the gateway made a mistake; its log says more under this request's id")
            .with_cause(cause)
    }

    /// All findings about a manifest.
    pub fn diagnostics(findings: Diagnostics) -> Self {
        let mut error = Self::new(Code::ManifestInvalid, "magrathea.yml has mistakes");
        error.diagnostics = Some(findings);
        error
    }

    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub fn with_cause(mut self, cause: impl Into<anyhow::Error>) -> Self {
        self.cause = Some(cause.into());
        self
    }

    pub fn status(&self) -> StatusCode {
        self.code.status()
    }
}

impl From<anyhow::Error> for ApiError {
    fn from(error: anyhow::Error) -> Self {
        match error.downcast::<ApiError>() {
            Ok(error) => error,
            Err(error) => error.downcast::<DbError>().map_or_else(ApiError::internal, ApiError::from),
        }
    }
}

impl From<NameError> for ApiError {
    fn from(error: NameError) -> Self {
        ApiError::new(Code::NameInvalid, error.to_string())
    }
}

impl From<DbError> for ApiError {
    fn from(error: DbError) -> Self {
        if error.is_unavailable() {
            let message = "the database cannot be reached; try again soon";
            return ApiError::new(Code::StoreUnavailable, message).with_cause(error);
        }
        ApiError::internal(error)
    }
}
