# The line to the simulated host's model: one JSON line asks, one answers (hvpsbridge/sim/standin).
# Dot-sourced by each stand-in module; a runspace has one connection per module.

$script:ModelStream = $null

function Connect-Model {
    $path = $env:HVPS_SIM_SOCKET
    if (-not $path) {
        throw 'HVPS_SIM_SOCKET is not set: this module only works on a simulated host'
    }
    $socket = [Net.Sockets.Socket]::new('Unix', 'Stream', 'Unspecified')
    $socket.Connect([Net.Sockets.UnixDomainSocketEndPoint]::new($path))
    $stream = [Net.Sockets.NetworkStream]::new($socket, $true)
    $script:ModelStream = [pscustomobject]@{
        Reader = [IO.StreamReader]::new($stream, [Text.UTF8Encoding]::new($false))
        Writer = [IO.StreamWriter]::new($stream, [Text.UTF8Encoding]::new($false))
    }
}

# Result of one call. An error of the model comes back as an object with an error property, for the
# module to report in its own way.
function Invoke-Model([string] $Call, [hashtable] $Arguments = @{}) {
    if ($null -eq $script:ModelStream) {
        Connect-Model
    }
    $request = @{ call = $Call; node = $env:HVPS_SIM_NODE } + $Arguments
    $script:ModelStream.Writer.WriteLine((ConvertTo-Json -InputObject $request -Depth 8 -Compress))
    $script:ModelStream.Writer.Flush()
    $line = $script:ModelStream.Reader.ReadLine()
    if ($null -eq $line) {
        $script:ModelStream = $null
        throw 'the simulated host has gone away'
    }
    $reply = [Text.Json.JsonDocument]::Parse($line).RootElement
    ConvertFrom-Element $reply
}

# Plain PowerShell values from JSON: hashtables, arrays, text, Int64, Double, Boolean. Text stays text, whatever it
# looks like.
function ConvertFrom-Element([Text.Json.JsonElement] $Element) {
    switch ([string] $Element.ValueKind) {
        'Object' {
            $table = @{}
            foreach ($member in $Element.EnumerateObject()) {
                $table[$member.Name] = ConvertFrom-Element $member.Value
            }
            return $table
        }
        'Array' {
            $list = [Collections.Generic.List[object]]::new()
            foreach ($item in $Element.EnumerateArray()) {
                $list.Add((ConvertFrom-Element $item))
            }
            return , $list.ToArray()
        }
        'String' { return $Element.GetString() }
        'Number' {
            $whole = 0L
            if ($Element.TryGetInt64([ref] $whole)) {
                return $whole
            }
            return $Element.GetDouble()
        }
        'True' { return $true }
        'False' { return $false }
    }
    return $null
}

# A time from the model as Windows shows it: local to the host.
function ConvertFrom-ModelTime([string] $Text) {
    [DateTimeOffset]::Parse($Text, [Globalization.CultureInfo]::InvariantCulture).LocalDateTime
}
