//! The primitives of pcap-filter(7).

/// What pcap-filter(7) of libpcap 1.10 lists, each as a part of an expression; one that ends with a
/// bracket reaches into packets.
///
/// `gateway` is missing: libpcap has it only where it was built without IPv6. The manual calls
/// `oamf4sc` and `oamf4ec` oamf4s and oamf4e, which libpcap does not understand.
pub(crate) const PRIMITIVES: &str = "
    dst host|src host|host|ip host|arp host|rarp host|ip6 host|src and dst|src or dst|
    ether dst|ether src|ether host|dst net|src net|net|mask|
    dst port|src port|port|dst portrange|src portrange|portrange|
    tcp src port|udp port|sctp dst port|tcp port|udp portrange|
    less|greater|ip proto|icmp|ip6 proto|icmp6|proto|ah|esp|pim|sctp|tcp|udp|igmp|igrp|vrrp|carp|
    ip6 protochain|ip protochain|protochain|
    ether broadcast|broadcast|ip broadcast|ether multicast|multicast|ip multicast|ip6 multicast|
    ether proto|fddi proto|tr proto|wlan proto|
    ip|ip6|arp|rarp|atalk|aarp|decnet|iso|stp|ipx|netbeui|lat|moprc|mopdl|sca|
    decnet src|decnet dst|decnet host|
    llc|llc i|llc s|llc u|llc rr|llc rnr|llc rej|llc ui|llc ua|llc disc|llc sabme|llc test|llc xid|llc frmr|
    inbound|outbound|
    ifname|on|rnr|rulenum|reason|rset|ruleset|srnr|subrulenum|action|
    wlan ra|wlan ta|wlan addr1|wlan addr2|wlan addr3|wlan addr4|wlan src|wlan dst|wlan host|
    type mgt|type ctl|type data|subtype|
    assoc-req|assoc-resp|reassoc-req|reassoc-resp|probe-req|probe-resp|beacon|atim|disassoc|auth|deauth|
    ps-poll|rts|cts|ack|cf-end|cf-end-ack|
    subtype data|data-cf-ack|data-cf-poll|data-cf-ack-poll|null|cf-ack|cf-poll|cf-ack-poll|
    qos-data|qos-data-cf-ack|qos-data-cf-poll|qos-data-cf-ack-poll|qos|qos-cf-poll|qos-cf-ack-poll|
    dir nods|dir tods|dir fromds|dir dstods|dir 2|
    vlan|vlan 100|mpls|mpls 1024|pppoed|pppoes|pppoes 0x27|geneve|geneve 0xb|
    iso proto|clnp|esis|isis|l1|l2|iih|lsp|snp|csnp|psnp|
    vpi|vci|lane|oamf4sc|oamf4ec|oamf4|oam|metac|bcc|sc|ilmic|connectmsg|metaconnect|
    >|<|>=|<=|=|==|!=|+|-|*|/|%|&|||^|<<|>>|len|
    arp[|atalk[|carp[|decnet[|ether[|fddi[|icmp[|icmp6[|igmp[|igrp[|ip[|ip6[|lat[|link[|mopdl[|moprc[|
    pim[|ppp[|radio[|rarp[|sca[|sctp[|slip[|tcp[|tr[|udp[|vrrp[|wlan[|
    icmptype|icmp6type|icmpcode|icmp6code|tcpflags|
    icmp-echoreply|icmp-unreach|icmp-sourcequench|icmp-redirect|icmp-echo|icmp-routeradvert|
    icmp-routersolicit|icmp-timxceed|icmp-paramprob|icmp-tstamp|icmp-tstampreply|icmp-ireq|
    icmp-ireqreply|icmp-maskreq|icmp-maskreply|
    icmp6-destinationunreach|icmp6-packettoobig|icmp6-timeexceeded|icmp6-parameterproblem|icmp6-echo|
    icmp6-echoreply|icmp6-multicastlistenerquery|icmp6-multicastlistenerreportv1|
    icmp6-multicastlistenerdone|icmp6-routersolicit|icmp6-routeradvert|icmp6-neighborsolicit|
    icmp6-neighboradvert|icmp6-redirect|icmp6-routerrenum|icmp6-nodeinformationquery|
    icmp6-nodeinformationresponse|icmp6-ineighbordiscoverysolicit|icmp6-ineighbordiscoveryadvert|
    icmp6-multicastlistenerreportv2|icmp6-homeagentdiscoveryrequest|icmp6-homeagentdiscoveryreply|
    icmp6-mobileprefixsolicit|icmp6-mobileprefixadvert|icmp6-certpathsolicit|icmp6-certpathadvert|
    icmp6-multicastrouteradvert|icmp6-multicastroutersolicit|icmp6-multicastrouterterm|
    tcp-fin|tcp-syn|tcp-rst|tcp-push|tcp-ack|tcp-urg|tcp-ece|tcp-cwr|
    and|or|not|&&|!|(";
