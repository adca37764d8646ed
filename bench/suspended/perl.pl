# Children over pipes, alarms, regular expressions, sorting.
use strict; use warnings; use Digest::SHA qw(sha256_hex); use Time::HiRes qw(ualarm sleep);
my $alarms = 0;
local $SIG{ALRM} = sub { $alarms++; ualarm(20000) if $alarms < 40; };
ualarm(20000);
my @pipes;
for my $n (1 .. 5) {
    pipe(my $r, my $w) or die;
    my $pid = fork();
    if (!$pid) {
        close $r;
        $SIG{ALRM} = 'DEFAULT';
        my %seen;
        for my $i (1 .. 60000) { my $s = "w" . ($i * $n % 977); $s =~ s/(\d)(\d)/$2$1/g; $seen{$s}++; }
        print $w join(",", map { "$_=$seen{$_}" } sort keys %seen), "\n";
        exit 0;
    }
    close $w;
    push @pipes, [$r, $pid];
}
my @sums = map { my ($r, $pid) = @$_; local $/; my $text = <$r>; waitpid($pid, 0); die if $?; sha256_hex($text) } @pipes;
sleep 0.05 while $alarms < 40;
print sha256_hex(join "", @sums), " $alarms\n";
