#separator \x09
#set_separator	,
#empty_field	(empty)
#unset_field	-
#path	conn
#fields	ts	uid	id.orig_h	id.orig_p	id.resp_h	id.resp_p	proto	service	duration	orig_bytes	resp_bytes	conn_state	local_orig	local_resp	missed_bytes	history	orig_pkts	orig_ip_bytes	resp_pkts	resp_ip_bytes	tunnel_parents	community_id
#types	time	string	addr	port	addr	port	enum	string	interval	count	count	string	bool	bool	count	string	count	count	count	count	set[string]	string
1763726400.000000	CtYpqXOyD29u9gIw7O	10.0.0.1	40000	10.0.0.2	22	tcp	-	41.006000	0	2333	SF	-	-	0	ShADadFf	23	-	22	-	-	1:6ss4qdJ0A66GEUdTP+xe+3biIN4=
1763726400.000000	C3scgDPiRw9bKxxAEz	2001:db8::1	40001	2001:db8::2	8080	tcp	-	3599.999999	0	12345070000	SH	-	-	70000	^dDaF	7	-	1	-	-	1:mbM2TguqRGUsVz0qPwHsbFYobTo=
