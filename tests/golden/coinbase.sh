#!/bin/sh
# The golden figures of the recorded Coinbase frames, by awk and bc alone: nothing of this project is used.
#
#     sh tests/golden/coinbase.sh ../shared/data/coinbase-2021-04-17.ws FOLDER
#
# awk reads and groups; every sum, product, quotient and logarithm is made by bc, with 60 decimals, and a quotient is
# rounded to 18 decimals, half-up, in the end (function h).
set -eu
frames=$1 folder=$2
mkdir -p "$folder"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export LC_ALL=C BC_LINE_LENGTH=0

# ---- the trades: symbol, time, id, price, size, taker. The feed names the maker's side, so the taker's is the other.
# By symbol and id: in this recording no time is before that of a lower id, so the trades of a bar lie together.
awk '
    function field(name,   found) {                     # the value of "name" in the frame, without its quotes
        match($0, "\"" name "\":(\"[^\"]*\"|[0-9]+)")
        found = substr($0, RSTART + length(name) + 3, RLENGTH - length(name) - 3)
        gsub("\"", "", found)
        return found
    }
    / <- / || / <-> / || !/"type":"(match|last_match)"/ { next }
    {
        symbol = field("product_id"); sub("-", "/", symbol)
        print symbol, field("time"), field("trade_id"), field("price"), field("size"),
              field("side") == "buy" ? "sell" : "buy"
    }' "$frames" | sort -k1,1 -k3,3n > "$work/trades"

# ---- bc: one expression a line in, one figure a line out, with the zero before the point that bc leaves out.
calculate() {
    {
        cat <<'BC'
scale = 60
define u(q) {
    auto s
    s = scale; q = q * 10^18 + 0.5; scale = 0; q = q / 1; scale = 18; q = q / 10^18; scale = s
    return (q)
}
define h(a, b) { auto q; q = a / b; if (q < 0) return (-u(-q)); return (u(q)) }
define n(a, b) { auto q; q = l(a / b); if (q < 0) return (-u(-q)); return (u(q)) }
define a(x) { if (x < 0) return (-x); return (x) }
BC
        cat
    } | bc -l | sed 's/^\(-\{0,1\}\)\./\10./'
}

# ---- bars of $1 minutes. Rows of words and of expressions in braces; bc's figures take the braces' places.
bars() {
    awk -v minutes="$1" '
        function start(time,   minute) {                # "2021-04-17T16:43:30.2Z" -> the start of its bar
            minute = substr(time, 12, 2) * 60 + substr(time, 15, 2)
            minute -= minute % minutes
            return sprintf("%sT%02d:%02d:00Z", substr(time, 1, 10), minute / 60, minute % 60)
        }
        function show(   id, complete) {
            complete = "true"
            for (id = lowest - 1; id <= highest + 1; id++) if (!((pair, id) in there)) complete = "false"
            print "coinbase", pair, bar, open, high, low, last, "{" volume "}", "{" quote "}",
                  "{h(" quote "," volume ")}", trades, "{0" buy "}", "{0" sell "}",
                  "{h((0" buy ")-(0" sell ")," volume ")}", lowest, highest, complete, "true"
        }
        { there[$1, $3] }                               # first every id, then the bars: the file is read twice
        FNR == NR { next }
        $1 != pair || start($2) != bar {
            if (bar) show()
            pair = $1; bar = start($2); trades = 0; volume = quote = buy = sell = ""
            open = high = low = $4; lowest = highest = $3
        }
        {
            trades++; last = $4
            if ($4 > high) high = $4
            if ($4 < low) low = $4
            if ($3 < lowest) lowest = $3
            if ($3 > highest) highest = $3
            volume = volume (volume ? "+" : "") $5
            quote = quote (quote ? "+" : "") $4 "*" $5
            if ($6 == "buy") buy = buy "+" $5; else sell = sell "+" $5
        }
        END { show() }' "$work/trades" "$work/trades" | sed 's/h(\([^,{}]*\),\([^,{}]*\))/h((\1),(\2))/g'
}

# ---- expressions in braces -> figures, then commas. In files of its own: one may feed another.
fill() {
    rows=$(mktemp "$work/rows.XXXXXX")
    cat > "$rows"
    { grep -o '{[^}]*}' "$rows" || true; } | tr -d '{}' | calculate > "$rows.figures"
    awk -v figures="$rows.figures" '{
        row = ""
        for (i = 1; i <= NF; i++) {
            value = $i
            if (value ~ /^{/) getline value < figures
            row = row (i > 1 ? "," : "") (value == "-" ? "" : value)
        }
        print row
    }' "$rows"
}

for size in 1m:1 5m:5 15m:15 1h:60 1d:1440; do
    {
        printf '%s' 'venue,symbol,bar_start,open,high,low,close,volume,quote_volume,vwap,trades,buy_volume,sell_volume,'
        echo 'pressure,first_trade_id,last_trade_id,complete,is_final'
        bars "${size#*:}" | fill
    } > "$folder/coinbase_bars_${size%:*}.csv"
done
minute="$folder/coinbase_bars_1m.csv"

# ---- indicators: no pair has five bars, so there is no mean; returns where the pair has a bar before.
{
    printf '%s' 'venue,symbol,bar_start,close,sma_5,sma_20,sma_60,vwap_5,vwap_20,vwap_60,minutes_since_previous,'
    echo 'simple_return,log_return'
    awk -F, 'NR > 1 {
        now = substr($3, 12, 2) * 60 + substr($3, 15, 2)
        line = $1 " " $2 " " $3 " " $7 " - - - - - - "
        if ($2 == pair) print line (now - start) " {h(" $7 "-" before "," before ")} {n(" $7 "," before ")}"
        else print line "- - -"
        pair = $2; before = $7; start = now
    }' "$minute" | fill
} > "$folder/coinbase_indicators_1m.csv"

# ---- moves beyond $1: bc says 1 where |close - open| > threshold * open.
moves() {
    awk -F, -v threshold="$1" 'NR > 1 { print "{a(" $7 "-" $4 ")>" threshold "*" $4 "}", $0 }' "$minute" | fill |
        awk -F, '$1 == 1 {
            print $2, $3, $4, ($8 > $5 ? "up" : "down"), $5, $8, "{h(" $8 "-" $5 "," $5 ")}", $12, $9
        }' | fill
}
header='venue,symbol,bar_start,direction,from_price,to_price,change,trades,volume'
{ echo "$header"; moves 0.02; } > "$folder/coinbase_moves.csv"
{ echo "$header"; moves 0.001; } > "$folder/coinbase_moves_from_0.001.csv"

# ---- spreads: the only venue is Coinbase, so there is none; a row for each minute all the same.
{
    printf '%s' 'base,quote,bar_start,price_binance,price_kraken,price_coinbase,venues,lowest_venue,highest_venue,'
    echo 'spread,spread_bps'
    awk -F, 'NR > 1 { split($2, asset, "/"); print asset[1] "," asset[2] "," $3 ",,," $7 ",1,,,," }' "$minute" | sort
} > "$folder/coinbase_spreads_1m.csv"
