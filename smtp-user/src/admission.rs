//! Who gets a place in a list of sources that is nearly full.
//!
//! Contract: the operator's own hosts cannot be crowded out. Strangers, who may be a flood of forged
//! addresses, take places only as long as an eighth of all is free; that eighth is for own hosts. Where
//! nobody has said which hosts are the operator's own, all are alike.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::model::Scope;

/// See the module.
#[derive(Clone, Debug)]
pub struct Admission {
    local: Vec<IpNet>,
    capacity: usize,
}

impl Admission {
    /// For a list of at most `capacity` sources; `local` are the operator's own prefixes.
    pub const fn new(local: Vec<IpNet>, capacity: usize) -> Self {
        Self { local, capacity }
    }

    /// Makes these the operator's own prefixes. Who has a place keeps it.
    pub fn set_local(&mut self, local: &[IpNet]) {
        self.local = local.to_vec();
    }

    /// Whether an address is the operator's own.
    pub fn scope(&self, address: IpAddr) -> Scope {
        scope(&self.local, address)
    }

    /// Whether a source of this scope gets a place in a list that has `listed` of them.
    pub const fn admits(&self, scope: Scope, listed: usize) -> bool {
        let reserved = match scope {
            Scope::Remote => self.capacity / 8,
            Scope::Local | Scope::Unknown => 0,
        };
        listed < self.capacity - reserved
    }
}

/// Whether an address is the operator's own, whose prefixes these are.
pub fn scope(local: &[IpNet], address: IpAddr) -> Scope {
    if local.is_empty() {
        Scope::Unknown
    } else if local.iter().any(|prefix| prefix.contains(&address)) {
        Scope::Local
    } else {
        Scope::Remote
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_leave_an_eighth_to_own_hosts() {
        let admission = Admission::new(vec!["192.0.2.0/24".parse().unwrap()], 16);
        let own = admission.scope("192.0.2.1".parse().unwrap());
        let stranger = admission.scope("198.51.100.1".parse().unwrap());
        assert_eq!((own, stranger), (Scope::Local, Scope::Remote));
        assert!(admission.admits(stranger, 13) && !admission.admits(stranger, 14));
        assert!(admission.admits(own, 15) && !admission.admits(own, 16));
    }

    #[test]
    fn without_a_prefix_list_all_are_alike() {
        let admission = Admission::new(Vec::new(), 16);
        let scope = admission.scope("192.0.2.1".parse().unwrap());
        assert_eq!(scope, Scope::Unknown);
        assert!(admission.admits(scope, 15) && !admission.admits(scope, 16));
    }
}
