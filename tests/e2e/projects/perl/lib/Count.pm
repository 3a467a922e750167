package Count;
use strict;
use warnings;

# Lines of a file that are neither empty nor a comment.
sub lines {
    my ($name, $comment) = @_;
    open my $file, '<', $name or die "$name: $!\n";
    return scalar grep { /\S/ && !/^\s*\Q$comment\E/ } <$file>;
}

1;
