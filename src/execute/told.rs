//! What a client has been told of reported parameters.
//!
//! A client relies on what `ParameterStatus` told it last. Servers are shared, and one that is
//! brought in line with a session reports values the client has known all along: only what is
//! news to it is passed on.

use std::sync::Arc;

/// A parameter's name and value.
pub type Reported = (String, String);

/// See the module.
#[derive(Clone, Debug)]
pub struct Told {
    /// As which process the client knows itself.
    pid: u32,
    /// What all sessions of the user are told at first.
    base: Arc<[Reported]>,
    /// Where this one's differ.
    own: Vec<Reported>,
}

impl Told {
    /// The client of cancel key `pid` that was told `base`, and then `own`.
    pub fn new(pid: u32, base: Arc<[Reported]>, own: impl IntoIterator<Item = Reported>) -> Told {
        let mut told = Told { pid, base, own: Vec::new() };
        for (name, value) in own {
            told.tell(&name, &value);
        }
        told.own.shrink_to_fit();
        told
    }

    /// Takes note of a value; true when the client does not know it yet.
    pub fn tell(&mut self, name: &str, value: &str) -> bool {
        // Which of a shard's servers has answered is nothing for a client to go by.
        let of_server = name == "in_hot_standby" && self.get(name).is_some();
        if of_server || self.get(name) == Some(value) {
            return false;
        }
        match self.own.iter_mut().find(|(known, _)| known == name) {
            Some((_, known)) => value.clone_into(known),
            None => self.own.push((name.to_owned(), value.to_owned())),
        }
        true
    }

    /// As which process the client knows itself.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// What it was told last.
    pub fn get(&self, name: &str) -> Option<&str> {
        let of = |pairs: &'_ [Reported]| pairs.iter().position(|(known, _)| known == name);
        match of(&self.own) {
            Some(at) => Some(&self.own[at].1),
            None => of(&self.base).map(|at| self.base[at].1.as_str()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_news_is_told() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let mut told = Told::new(1, Arc::from([pair("TimeZone", "UTC")]), [pair("application_name", "x")]);
        assert!(!told.tell("TimeZone", "UTC") && !told.tell("application_name", "x"));
        assert!(told.tell("TimeZone", "Asia/Tokyo") && !told.tell("TimeZone", "Asia/Tokyo"));
        assert!(told.tell("TimeZone", "UTC"));
        assert!(told.tell("new", "1"));
        assert_eq!(told.get("new"), Some("1"));
    }
}
