# Reads packaging/order/used (`hash size`) and the output of packaging/order/functions, and writes `rank<TAB>symbol` for
# the functions to put next to each other. The name of a generic function is that of several ones, of which one may be
# used and another not; their sizes tell them apart. If a size has changed, all functions of the name are taken.
BEGIN { FS = "[ \t]" }
NR == FNR {
    rank[$1 " " $2] = FNR
    if (!($1 in first)) first[$1] = FNR
    wanted[$1]++
    next
}
$1 in first {
    count++
    hash[count] = $1; symbol[count] = $3
    if (($1 " " $2) in rank) {
        exact[count] = rank[$1 " " $2]
        if (!seen[$1 " " $2]++) found[$1]++
    }
}
END {
    for (i = 1; i <= count; i++) {
        if (i in exact) print exact[i] "\t" symbol[i]
        else if (found[hash[i]] < wanted[hash[i]]) print first[hash[i]] "\t" symbol[i]
    }
}
