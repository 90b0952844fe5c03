//! Options of commands that show packets as they come: when to end.

use super::Failure;
use super::client::escape;

/// Takes the options out of a command's words; gives the other words and the query that the daemon is to be asked.
pub fn options(words: &[String]) -> Result<(Vec<&str>, Vec<String>), Failure> {
    let (mut arguments, mut query) = (Vec::new(), Vec::new());
    let mut words = words.iter().map(String::as_str);
    while let Some(word) = words.next() {
        let mut value = || words.next().unwrap_or_default();
        match word {
            "-c" | "--count" => match value().parse::<u64>() {
                Ok(count) if count > 0 => query.push(format!("count={count}")),
                _ => return Failure::usage(format!("{word}: expected a number from 1")),
            },
            "--seconds" => match value().parse::<f64>() {
                Ok(seconds) if seconds > 0.0 && seconds.is_finite() => {
                    query.push(format!("seconds={seconds}"));
                }
                _ => return Failure::usage("--seconds: expected a number above 0"),
            },
            option if option.starts_with("--") => {
                let name = arguments.first().copied().unwrap_or_default();
                return Failure::usage(format!("'{name}' command has no '{option}' option"));
            }
            word => arguments.push(word),
        }
    }
    Ok((arguments, query))
}

/// The part of a query that words are, joined as they were typed.
pub fn joined(name: &str, words: &[&str]) -> String {
    format!("{name}={}", escape(&words.join(" ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_stand_anywhere_and_filters_keep_their_words() {
        let split = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let words = split("monitor p0 -c 3 ip[2:2] - 20 > 0 --seconds 2");
        let (words, query) = options(&words).unwrap();
        assert_eq!(words, ["monitor", "p0", "ip[2:2]", "-", "20", ">", "0"]);
        assert_eq!(query, ["count=3", "seconds=2"]);
        assert_eq!(joined("filter", &words[2..]), "filter=ip%5B2%3A2%5D%20-%2020%20%3E%200");
        for wrong in ["capture --count 0", "capture --seconds nan", "capture -c", "capture --fast"] {
            assert!(options(&split(wrong)).is_err(), "{wrong}");
        }
    }
}
