//! `openapi` and `errors`: the references in docs/reference that are made from the code.

use crate::api::error::Code;

/// The API's OpenAPI document.
pub fn openapi_json() -> serde_json::Result<String> {
    serde_json::to_string_pretty(&crate::api::openapi())
}

/// All error codes, as a Markdown page.
pub fn errors_markdown() -> String {
    let mut page = String::from(
        "# Error codes\n\nMade by `magrathea-gateway errors`; do not edit.\n\nEvery error of the API has a JSON body with \
         `code` (one of these, stable), `message`, `request` (the id under which the gateway's log tells more), and \
         sometimes `hint` and `diagnostics`.\n\n| code | status | meaning |\n| --- | --- | --- |\n",
    );
    for code in Code::ALL {
        page.push_str(&format!("| `{}` | {} | {} |\n", code.as_str(), code.status().as_u16(), code.meaning()));
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_current(file: &str, text: &str) {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/reference/").to_owned() + file;
        let stored = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(stored.trim() == text.trim(), "{file} is not current; run scripts/docs.sh");
    }

    #[test]
    fn the_references_are_current() {
        check_current("openapi.json", &openapi_json().unwrap());
        check_current("errors.md", &errors_markdown());
    }
}
