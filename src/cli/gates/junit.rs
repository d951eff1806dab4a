//! The outcome of gates as JUnit XML: a suite per file, a case per check.

use super::Checked;

/// The document.
pub fn xml(command: &str, checked: &[Checked]) -> String {
    let failed = |file: &Checked| file.checks().iter().filter(|(_, failure)| failure.is_some()).count();
    let (tests, failures) =
        checked.iter().fold((0, 0), |(tests, failures), file| (tests + file.checks().len(), failures + failed(file)));
    let name = attribute(&format!("jurist {command}"));
    let mut text = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites name=\"{name}\" tests=\"{tests}\" failures=\"{failures}\" errors=\"0\">\n"
    );
    for file in checked {
        let (suite, tests) = (attribute(&file.name), file.checks().len());
        let failures = failed(file);
        text += &format!("  <testsuite name=\"{suite}\" tests=\"{tests}\" failures=\"{failures}\" errors=\"0\" skipped=\"0\">\n");
        for (check, failure) in file.checks() {
            let case = format!("    <testcase classname=\"{suite}\" name=\"{}\"", attribute(&check));
            text += &match failure {
                None => format!("{case}/>\n"),
                Some(failure) => format!("{case}>\n      <failure message=\"{}\"/>\n    </testcase>\n", attribute(&failure)),
            };
        }
        text += "  </testsuite>\n";
    }
    text + "</testsuites>\n"
}

/// A text as the value of an attribute. What XML cannot hold becomes the replacement character.
fn attribute(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped += "&amp;",
            '<' => escaped += "&lt;",
            '>' => escaped += "&gt;",
            '"' => escaped += "&quot;",
            '\t' | '\n' | '\r' => escaped += &format!("&#{};", u32::from(c)),
            c if c.is_control() || ['\u{fffe}', '\u{ffff}'].contains(&c) => escaped.push('\u{fffd}'),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_escaped() {
        assert_eq!(attribute("a<b & \"c\"\n\u{1}>=0"), "a&lt;b &amp; &quot;c&quot;&#10;\u{fffd}&gt;=0");
    }
}
