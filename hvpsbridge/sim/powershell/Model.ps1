# The connection to the model of the simulated host: requests and replies are lines of JSON (hvpsbridge/sim/standin).
# Each stand-in module dot-sources this file; a runspace has one connection per module.

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

# The reply to a call, with a result or an error, which the module reports.
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

# PowerShell values from JSON: hashtables, arrays, strings, Int64, Double, Boolean. Strings are not converted.
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
        'String' {
            try {
                return $Element.GetString()
            }
            catch {
                # Half a surrogate pair, which a name of a VM may have.
                return [Newtonsoft.Json.JsonConvert]::DeserializeObject($Element.GetRawText(), [string])
            }
        }
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

# A time of the model as local time of the host.
function ConvertFrom-ModelTime([string] $Text) {
    [DateTimeOffset]::Parse($Text, [Globalization.CultureInfo]::InvariantCulture).LocalDateTime
}
