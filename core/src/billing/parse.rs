//! Reading `rates.yml`.

use serde_json::{Value, json};

use super::{Meter, MeterPrice, Meters, Rates};
use crate::diagnostics::Diagnostics;
use crate::schema::check::{Checker, join};
use crate::schema::json_schema;
use crate::yaml::{self, Node};

/// Parses the text of a `rates.yml`; `file` is the name shown in diagnostics.
pub fn parse_rates(file: &str, text: &str) -> Result<Rates, Diagnostics> {
    let document = yaml::parse(file, text)?;
    let mut checker = Checker { file, text, findings: Vec::new() };
    let root = checker.check(&rates_json_schema(), &document, "").map(Node::without_nulls);
    let rates = root.as_ref().and_then(|root| {
        let typed: Result<Rates, _> = serde_json::from_value(root.to_json());
        typed.map_err(|error| checker.report(root.mark, "", format!("cannot be used: {error}"), None)).ok()
    });
    if let (Some(root), Some(rates)) = (&root, &rates) {
        check_rates(&mut checker, root, rates);
    }
    match (rates, checker.finish()) {
        (Some(rates), findings) if !findings.has_errors() => Ok(rates),
        (_, findings) => Err(findings),
    }
}

/// The JSON Schema of `rates.yml`.
pub fn rates_json_schema() -> Value {
    let mut schema = json_schema::<Rates>();
    schema.insert("title".into(), "rates.yml".into());
    schema.insert(
        "description".into(),
        "Prices, from a day on, for everybody, a cluster or an organisation. Prices are decimals of the currency; a GB is \
         10⁹ bytes."
            .into(),
    );
    schema.insert("patternProperties".into(), json!({"^x-": {}}));
    Value::Object(schema)
}

fn check_rates(checker: &mut Checker<'_>, root: &Node, rates: &Rates) {
    if rates.prices.is_empty() {
        let hint = Some("add a list with `from` and `meters`".into());
        checker.report(root.place(&["prices"]).0, "prices", "there is no price list".into(), hint);
    }
    for (n, pair) in rates.prices.windows(2).enumerate() {
        if let [older, newer] = pair
            && newer.from <= older.from
        {
            let number = (n + 1).to_string();
            let mark = root.place(&["prices", &number, "from"]).0;
            let message = format!("the list from {} stands after the one from {}", newer.from, older.from);
            let hint = Some("put the oldest first, each day once".into());
            checker.report(mark, &format!("prices[{number}].from"), message, hint);
        }
    }
    for (n, list) in rates.prices.iter().enumerate() {
        let number = n.to_string();
        let clusters = list.clusters.iter().map(|(name, meters)| (vec!["clusters", name.as_str()], meters));
        let organisations =
            list.organisations.iter().map(|(name, meters)| (vec!["organisations", name.as_str()], meters));
        let all = std::iter::once((vec!["meters"], &list.meters)).chain(clusters).chain(organisations);
        for (place, meters) in all {
            check_meters(checker, root, &[vec!["prices", number.as_str()], place].concat(), meters);
        }
    }
}

fn check_meters(checker: &mut Checker<'_>, root: &Node, place: &[&str], meters: &Meters) {
    for meter in Meter::ALL {
        let Some(MeterPrice { included, steps, .. }) = meters.get(meter) else { continue };
        let mut below = included;
        for (n, step) in steps.iter().enumerate() {
            if n == 0 && step.above < below || n > 0 && step.above <= below {
                let number = n.to_string();
                let keys = [place, &[meter.as_str(), "steps", &number, "above"]].concat();
                let message = format!("the step above {} begins where an earlier price holds", step.above);
                let hint = Some(format!("it must be more than {below}: steps ascend, from what is included on"));
                checker.report(root.place(&keys).0, &path(&keys), message, hint);
            }
            below = step.above;
        }
    }
}

/// As in `prices[0].meters`.
fn path(keys: &[&str]) -> String {
    let is_index = |key: &str| key.bytes().all(|b| b.is_ascii_digit());
    keys.iter().fold(String::new(), |path, key| if is_index(key) { format!("{path}[{key}]") } else { join(&path, key) })
}
