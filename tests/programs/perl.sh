# perl: forks, pipes, sorting, regular expressions, file tests.
set -eu
perl -e 'my %h; $h{length $_}++ for map { "x" x ($_ % 13) } 1..10000; print join(",", map { "$_=$h{$_}" } sort { $a <=> $b } keys %h), "\n"'
perl -e 'pipe(R, W); if (my $p = fork) { close W; print while <R>; waitpid($p, 0); print $? >> 8, "\n" } else { close R; print W "child\n"; close W; exit 4 }'
perl -e 'open(F, "-|", "seq 1 1000") or die; my $s = 0; $s += $_ while <F>; print "$s\n"; close F; print $?, "\n"'
perl -MPOSIX -e '$SIG{USR1} = sub { print "usr1\n" }; kill USR1 => $$; print POSIX::strftime("%Y", gmtime(0)), "\n"; print -d "/usr" ? "dir\n" : "no\n"'
perl -MDigest::MD5=md5_hex -MTime::HiRes=usleep -e 'usleep 1000; print md5_hex("x" x 100000), "\n"'
