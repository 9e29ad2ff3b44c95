//! Expressions with every primitive, for the linktypes that have them.

/// A linktype, and expressions for it: one in a line, all of which have packets that match and
/// packets that do not.
pub(crate) const EXPRESSIONS: &[(u16, &str)] = &[
    (1, ETHERNET),
    (1, ICMP),
    (6, "tr proto 0x0800\ntr[14] = 3\nip host 10.0.0.1"),
    (8, "inbound\noutbound\nslip[0] = 1\ntcp port 80"),
    (9, "ppp[0:2] = 0x0021\nip6\ntcp port 80 or udp port 53"),
    (10, "fddi proto 0x0806\nfddi[0] & 0xf0 = 0x50\nudp port 53"),
    (0, "ip\nip6 and tcp port 80"),
    (50, "ip\ntcp port 80"),
    (101, "ip\nip6 host 2001:db8::1\ntcp port 80 or udp port 53\nip protochain 6"),
    (104, "ip\ntcp port 443"),
    (105, WLAN),
    (108, "ip\nip6"),
    (113, "inbound\noutbound\nip\ntcp port 80 or udp port 53\nlink[0:2] = 4"),
    (117, PF),
    (123, ATM),
    (127, "radio[0] = 0\ntype data\ntcp port 80\nwlan host 00:11:22:33:44:55"),
    (228, "tcp port 80\nnet 10.0.0.0/8"),
    (229, "tcp port 80\nicmp6\nip6 multicast"),
    (276, "inbound\noutbound\nip6\ntcp port 80 or udp port 53"),
];

/// What a libpcap says of expressions for which it was not built.
pub(crate) const NOT_BUILT: &str = "libpcap was compiled without pf support";

const ETHERNET: &str = r"dst host 10.0.0.1
src host 10.0.0.1
host 10.0.0.1
src 10.0.0.1
host 2001:db8::1
ip host 10.0.0.1
arp host 10.0.0.1
rarp host 10.0.0.1
ip6 host 2001:db8::1
src and dst 10.0.0.1
src or dst host 10.0.0.1
ether dst 00:11:22:33:44:55
ether src 0011.2233.4455
ether host 00-11-22-33-44-55
ether host 00:11:22:33:44:55 and not host 10.0.0.1
dst net 10
src net 10.1
net 10.1.2
net 10.1.2.3
net 10.1.0.0 mask 255.255.0.0
dst net 10.1.0.0 mask 255.255.192.0
net 192.168.0.0/17
net 2001:db8::/33
src net 2001:db8::/64
dst port 80
src port 80
port 80
tcp port 80 or udp port 53
tcp src port 80
udp port 53
sctp dst port 9
port 1 or 2 or 3 or 50000
dst portrange 6000-6008
src portrange 6000-6008
portrange 6000-6008
udp portrange 0-1023
tcp dst port 20 or 21 or 53
less 100
greater 100
len <= 60
len - 14 > 50
ip proto 17
ip proto 89
icmp
ip6 proto 17
ip6 proto 43
icmp6
proto 17
proto 132
ah
esp
pim
sctp
tcp
udp
igmp
igrp
vrrp
carp
ip6 protochain 6
ip protochain 6
protochain 17
ip6 protochain 44
not ip6 protochain 59 and ip6
ether broadcast
broadcast
ip broadcast
ether multicast
multicast
ip multicast
ip6 multicast
ether proto 0x88cc
ether proto \arp
ether proto \ip6
ether proto \stp
ether proto \ipx
ip
ip6
arp
rarp
atalk
aarp
decnet
iso
stp
ipx
netbeui
lat
moprc
mopdl
sca
decnet src 10.123
decnet dst 10.123
decnet host 1.2
llc
llc i
llc s
llc u
llc rr
llc rnr
llc rej
llc ui
llc ua
llc disc
llc sabme
llc test
llc xid
llc frmr
vlan
vlan 100
vlan 100 && vlan 200
vlan && vlan 300 && ip
vlan and tcp port 443
not vlan and ip
mpls
mpls 1024
mpls 100000 && mpls 1024
mpls && mpls 1024 && host 192.9.200.1
pppoed
pppoes
pppoes 0x27
pppoes 0x27 && ip
pppoes and tcp port 80
geneve
geneve 0xb
geneve 0xb && ip
geneve and tcp port 80
iso proto 0x83
iso proto \esis
clnp
esis
isis
l1
l2
iih
lsp
snp
csnp
psnp
ether[0] & 1 != 0
ether[12:2] > 1500
ether[12:2] >= 0x0600 and ether[12:2] < 0x0800
ether[0:4] == 0x00112233
ip[0] & 0xf != 5
ip[6:2] & 0x1fff = 0
ip[8] < 5
ip[2:2] > 576
ether[0] & 1 = 0 and ip[16] >= 224
ip[12:4] ^ ip[16:4] = 0xff
ip[12:4] | 0xff = 0x0a0000ff
ip[8] * 2 = 128
ip[2:2] / 4 = 10
ip[4:2] % 16 = 3
ip[4:2] % ip[8] = 3
ip[4:2] / ip[8] = 3
ip[9] << 4 = 0x60
ip[0] >> 4 != 4
1 << ip[9] = 64
ip[2:2] >> ip[9] = 1
ip[0] + ip[1] = 0x50
ip[0] - ip[1] > 0x80000000
ip[ip[0] & 0xf] = 7
ip[0 - ip[8]] < 200
ip[2:2] * ip[8] > 20000
ip[8] & ip[9] != 0
len > ip[2:2] + 14
len = ip[2:2] + 14
len >= ether[12:2]
ip6[6] = 58
ip6[4:2] > 100
arp[6:2] = 2
rarp[6:2] = 3
atalk[0] = 1
decnet[0] = 2
lat[0] = 2
mopdl[0] = 4
moprc[0] = 5
sca[0] = 1
link[13] = 6
igmp[0] = 0x16
igrp[0] = 0x11
pim[0] = 0x20
sctp[12] = 1
udp[4:2] > 100
udp[8] = 0xff
vrrp[0] = 0x21
carp[0] = 0x21
tcp[0:2] = 80
tcp[tcpflags] & (tcp-syn|tcp-fin) != 0
tcp[tcpflags] & (tcp-syn | tcp-fin) != 0
tcp[tcpflags] & (tcp-rst|tcp-ack) == (tcp-rst|tcp-ack)
tcp[tcpflags] == tcp-push
tcp[tcpflags] & tcp-urg != 0
tcp[tcpflags] & tcp-ece != 0 or tcp[tcpflags] & tcp-cwr != 0
tcp[((tcp[12] & 0xf0) >> 2):4] = 0x47455420
tcp port 80 and (((ip[2:2] - ((ip[0]&0xf)<<2)) - ((tcp[12]&0xf0)>>2)) != 0)
host 10.0.0.1 and not (port 22 or port 23)
host 10.0.0.1 and (10.0.0.2 or 10.0.0.3)
!tcp && !udp && !arp
(ip or ip6) and not (tcp or udp or icmp or icmp6)
ip and not net 10.0.0.0/8
tcp[tcpflags] & (tcp-syn|tcp-fin) != 0 and not src and dst net 10.0.0.0/8
(tcp port 443 or udp port 443) and net 192.168.1.0/24 and greater 200
";

const ICMP: &str = "icmp[icmptype] = icmp-echoreply
icmp[icmptype] = icmp-unreach and icmp[icmpcode] = 3
icmp[icmptype] = icmp-sourcequench
icmp[icmptype] = icmp-redirect
icmp[icmptype] = icmp-echo
icmp[icmptype] = icmp-routeradvert
icmp[icmptype] = icmp-routersolicit
icmp[icmptype] = icmp-timxceed
icmp[icmptype] = icmp-paramprob
icmp[icmptype] = icmp-tstamp
icmp[icmptype] = icmp-tstampreply
icmp[icmptype] = icmp-ireq
icmp[icmptype] = icmp-ireqreply
icmp[icmptype] = icmp-maskreq
icmp[icmptype] = icmp-maskreply
icmp[icmptype] != icmp-echo and icmp[icmptype] != icmp-echoreply
icmp6[0] = 1
icmp6[icmp6type] = icmp6-destinationunreach and icmp6[icmp6code] = 4
icmp6[icmp6type] = icmp6-packettoobig
icmp6[icmp6type] = icmp6-timeexceeded
icmp6[icmp6type] = icmp6-parameterproblem
icmp6[icmp6type] = icmp6-echo
icmp6[icmp6type] = icmp6-echoreply
icmp6[icmp6type] = icmp6-multicastlistenerquery
icmp6[icmp6type] = icmp6-multicastlistenerreportv1
icmp6[icmp6type] = icmp6-multicastlistenerdone
icmp6[icmp6type] = icmp6-routersolicit
icmp6[icmp6type] = icmp6-routeradvert
icmp6[icmp6type] = icmp6-neighborsolicit
icmp6[icmp6type] = icmp6-neighboradvert
icmp6[icmp6type] = icmp6-redirect
icmp6[icmp6type] = icmp6-routerrenum
icmp6[icmp6type] = icmp6-nodeinformationquery
icmp6[icmp6type] = icmp6-nodeinformationresponse
icmp6[icmp6type] = icmp6-ineighbordiscoverysolicit
icmp6[icmp6type] = icmp6-ineighbordiscoveryadvert
icmp6[icmp6type] = icmp6-multicastlistenerreportv2
icmp6[icmp6type] = icmp6-homeagentdiscoveryrequest
icmp6[icmp6type] = icmp6-homeagentdiscoveryreply
icmp6[icmp6type] = icmp6-mobileprefixsolicit
icmp6[icmp6type] = icmp6-mobileprefixadvert
icmp6[icmp6type] = icmp6-certpathsolicit
icmp6[icmp6type] = icmp6-certpathadvert
icmp6[icmp6type] = icmp6-multicastrouteradvert
icmp6[icmp6type] = icmp6-multicastroutersolicit
icmp6[icmp6type] = icmp6-multicastrouterterm
";

const WLAN: &str = "wlan ra 00:11:22:33:44:55
wlan ta 00:11:22:33:44:55
wlan addr1 00:11:22:33:44:55
wlan addr2 00:11:22:33:44:55
wlan addr3 00:11:22:33:44:55
wlan addr4 00:11:22:33:44:55
wlan src 00:11:22:33:44:55
wlan dst 00:11:22:33:44:55
wlan host 00:11:22:33:44:55
wlan proto 0x0800
wlan[0] = 0x80
type mgt
type ctl
type data
type mgt subtype assoc-req
type mgt subtype assoc-resp
type mgt subtype reassoc-req
type mgt subtype reassoc-resp
type mgt subtype probe-req
type mgt subtype probe-resp
type mgt subtype beacon
type mgt subtype atim
type mgt subtype disassoc
type mgt subtype auth
type mgt subtype deauth
type ctl subtype ps-poll
type ctl subtype rts
type ctl subtype cts
type ctl subtype ack
type ctl subtype cf-end
type ctl subtype cf-end-ack
type data subtype data
type data subtype data-cf-ack
type data subtype data-cf-poll
type data subtype data-cf-ack-poll
type data subtype null
type data subtype cf-ack
type data subtype cf-poll
type data subtype cf-ack-poll
type data subtype qos-data
type data subtype qos-data-cf-ack
type data subtype qos-data-cf-poll
type data subtype qos-data-cf-ack-poll
type data subtype qos
type data subtype qos-cf-poll
type data subtype qos-cf-ack-poll
subtype beacon
dir nods
dir tods
dir fromds
dir dstods
dir 2
llc
broadcast
multicast
tcp port 80
ip6
";

const PF: &str = "ifname em0
on em0
rnr 3
rulenum 3
reason match
reason bad-offset
reason fragment
reason bad-timestamp
reason short
reason normalize
reason memory
rset anchor
ruleset anchor
srnr 4
subrulenum 4
action pass
action block
action nat
action rdr
action binat
action scrub
action nordr
tcp port 80
";

const ATM: &str = "vpi 3
vci 33
lane
lane and ip
oamf4sc
oamf4ec
oamf4
oam
metac
bcc
sc
ilmic
connectmsg
metaconnect
llc
vpi 3 and vci > 32
";
