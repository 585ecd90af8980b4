//! The operator's `rates.yml`. It is read whenever prices are needed, so an edit holds at once.

use std::path::Path;

use jiff::tz::TimeZone;
use magrathea_core::billing::{Rates, parse_rates};
use magrathea_core::people::{Place, Verb};

use crate::actor::Actor;
use crate::api::error::{ApiError, Code};
use crate::state::State;

/// The prices as they are now.
pub async fn load_rates(state: &State, actor: &Actor) -> Result<Rates, ApiError> {
    let hint =
        "write a rates.yml and start the gateway with --rates FILE or MAGRATHEA_RATES=FILE; see docs/guide/billing.md";
    let missing = |what: &str| ApiError::new(Code::RatesMissing, what).with_hint(hint);
    let path = state.rates.as_deref().ok_or_else(|| missing("the gateway was given no prices"))?;
    let read = tokio::fs::read_to_string(path).await;
    let text = read.map_err(|error| missing("the file of the prices cannot be read").with_cause(error))?;
    parse_rates(&name(path), &text).map_err(|findings| {
        // Lines of it tell what others pay.
        if !actor.may(Verb::Costs, Place::Platform) {
            let message = "the prices have mistakes, which the operator must mend";
            return ApiError::new(Code::RatesInvalid, message).with_cause(anyhow::Error::new(findings));
        }
        let mut error = ApiError::new(Code::RatesInvalid, "rates.yml has mistakes");
        error.diagnostics = Some(findings);
        error
    })
}

/// Whose days and months they are: the prices' own zone, where there are any.
pub async fn zone(state: &State) -> TimeZone {
    let rates = async {
        let path = state.rates.as_deref()?;
        parse_rates(&name(path), &tokio::fs::read_to_string(path).await.ok()?).ok()
    };
    rates.await.map_or_else(|| state.time_zone.clone(), |rates| rates.zone())
}

/// Says at the start what is wrong with it; sites are served all the same.
pub fn check(path: &Path) {
    match std::fs::read_to_string(path) {
        Ok(text) => {
            if let Err(findings) = parse_rates(&name(path), &text) {
                tracing::error!("{} has mistakes, so nothing has a price:\n{findings}", path.display());
            }
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            tracing::info!("there is no {} yet, so nothing has a price", path.display());
        }
        Err(error) => tracing::error!(%error, "{} cannot be read, so nothing has a price", path.display()),
    }
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}
