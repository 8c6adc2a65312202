# Reads `address<TAB>size<TAB>symbol<TAB>name`, and writes `hash<TAB>size<TAB>symbol<TAB>address`.
BEGIN { FS = "\t"; for (i = 1; i < 256; i++) code[sprintf("%c", i)] = i }
{
    hash = 5381
    for (i = 1; i <= length($4); i++) hash = (hash * 33 + code[substr($4, i, 1)]) % 4294967291
    sub(/^0+/, "", $2)
    printf "%08x\t%s\t%s\t%s\n", hash, $2 == "" ? "0" : $2, $3, $1
}
